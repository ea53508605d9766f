"""Drawn still lifes with expressions whose meaning is known, in the layout of REFER."""
