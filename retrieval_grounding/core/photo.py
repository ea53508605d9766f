"""What a photograph says about itself, and how it looks at a glance."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Photo"]


class Photo(NamedTuple):
    """Facts about an image file that are stored once for each content.

    Parameters
    ----------
    taken : str
        When it was taken, ``2024-05-31T18:30:00``, in the time of the camera's clock; empty if it
        does not say.
    camera : str
        Make and model; empty if it does not say.
    gps : bool
        Whether it contains the place where it was taken. The place itself is not stored.
    looks : str
        Perceptual hash, 16 hexadecimal digits: similar pictures differ in few of its 64 bits.
    """

    taken: str = ""
    camera: str = ""
    gps: bool = False
    looks: str = ""
