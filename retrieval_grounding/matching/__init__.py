"""Matchers: how well each region of an image fits a phrase, and how they are trained."""
