"""Finding what is missing from a JPEG that the decoder fills in without a word.

libjpeg goes on after most damage: a picture whose data end early is gray below, and after wrong
bytes the rest is shifted or has false colors. Pillow does not pass its warnings on.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from functools import cached_property

from PIL import Image, ImageChops

__all__ = ["JpegData", "gray_tail", "has_gray_corner", "left_over"]


_SLACK = 8
"""Bytes at the end of the data of which a complete picture needs at least one."""

_PADDING = bytes((37 * number + 11) % 251 for number in range(4096))
"""Continues data that end early, as different from gray as any bytes without markers."""

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_HOLE = bytes(512)
_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
_SEGMENTS = frozenset((0xDB, 0xDC, 0xFE, *range(0xE0, 0xF0)))
_TABLES, _SCAN, _RESTARTS, _END = 0xC4, 0xDA, 0xDD, 0xD9


@dataclass
class _Scan:
    components: tuple[int, ...]
    coefficients: range
    bits_left: int
    start: int
    end: int = -1


@dataclass
class JpegData:
    """Where the compressed data of a JPEG are, from its markers.

    Parameters
    ----------
    data : bytes
        The file.
    """

    data: bytes
    progressive: bool = False
    size: tuple[int, int] = (0, 0)
    factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    restart_interval: int = 0
    scans: list[_Scan] = field(default_factory=list)
    flat_zeros: bool = True
    """Whether zeros may code a flat area: they are the first code of each table."""
    stray: int | None = None
    """Position of something in the data of the picture that does not belong there."""

    def __post_init__(self) -> None:
        try:
            self._parse()
        except (IndexError, ValueError):  # not for us to judge: the decoder reports it
            self.stray = None

    @property
    def plain(self) -> bool:
        """Whether the first scan has the whole picture, which is then decoded row by row."""
        channels = len(self.factors)
        return (
            not self.progressive and bool(self.scans) and len(self.scans[0].components) == channels
        )

    @property
    def tail(self) -> int:
        """Where the last bytes of a plain picture start, without which it cannot be complete.

        A guess, because to find the end takes time: in a file with more than one picture, it is
        too late.
        """
        if not self.plain:
            return len(self.data)
        end = self.data.rfind(b"\xff\xd9", self.scans[0].start)
        return max(0, (end if end >= 0 else len(self.data)) - _SLACK)

    @cached_property
    def end(self) -> int:
        """Where the data of a plain picture end."""
        return self._end_of_scan(self.scans[0].start)

    @property
    def buffered_bytes_per_pixel(self) -> float:
        """What the decoder keeps of a picture in several scans: two bytes per coefficient."""
        if not self.scans or self.plain:
            return 0.0
        across = max(h for h, _ in self.factors.values())
        down = max(v for _, v in self.factors.values())
        return 2 * sum(h * v for h, v in self.factors.values()) / (across * down)

    def missing_intervals(self) -> float:
        """Return the share of restart intervals whose markers are missing."""
        if not self.plain or not self.restart_interval:
            return 0.0
        expected = -(-self._units() // self.restart_interval) - 1
        scan = self.scans[0]
        found = sum(1 for _ in _RESTART.finditer(self.data, scan.start, self.end))
        return max(0, expected - found) / (expected + 1)

    def missing_coefficients(self) -> float:
        """Return the share of coefficients of a progressive picture that lack bits."""
        if not self.progressive or not self.scans:
            return 0.0
        complete = {
            (component, number)
            for scan in self.scans
            for component in scan.components
            for number in scan.coefficients
            if scan.bits_left == 0
        }
        return 1 - len(complete) / (64 * len(self.factors))

    def holes(self) -> float:
        """Return the share of the data that is zero where no encoder writes so many zeros."""
        if self.plain:
            parts = [] if self.flat_zeros else [(self.scans[0].start, len(self.data))]
        else:
            parts = [(s.start, s.end) for s in self.scans if s.coefficients.start > 0]
        if not any(self.data.find(_HOLE, start, end) >= 0 for start, end in parts):
            return 0.0
        if self.plain:
            parts = [(self.scans[0].start, self.end)]
        zeros = sum(self.data.count(_HOLE, start, end) for start, end in parts)
        return zeros * len(_HOLE) / sum(end - start for start, end in parts)

    def _units(self) -> int:
        """Return the number of coded units of a plain picture."""
        width, height = self.size
        across, down = 8, 8
        if len(self.scans[0].components) > 1:
            across *= max(h for h, _ in self.factors.values())
            down *= max(v for _, v in self.factors.values())
        return -(-width // across) * -(-height // down)

    def _parse(self) -> None:
        data, at = self.data, 2
        while at + 4 <= len(data):
            if data[at] != 0xFF:
                self.stray = at if self.scans else None
                return
            marker = data[at + 1]
            if marker == 0xFF:  # a fill byte
                at += 1
                continue
            if marker == _END:
                return
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            body = data[at + 4 : at + 2 + length]
            if marker in _FRAMES:
                self._read_frame(marker, body)
            elif marker == _RESTARTS:
                self.restart_interval = int.from_bytes(body[:2], "big")
            elif marker == _TABLES:
                self._read_tables(body)
            elif marker == _SCAN:
                start = at + 2 + length
                self.scans.append(self._read_scan(body, start))
                if self.plain:  # the rest takes time, and is rarely needed
                    return
                self.scans[-1].end = end = self._end_of_scan(start)
                at = end
                continue
            elif marker not in _SEGMENTS:
                self.stray = at if self.scans else None
                return
            at += 2 + length

    def _read_frame(self, marker: int, body: bytes) -> None:
        self.progressive = marker == 0xC2
        self.size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
        self.factors = {
            body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, 6 + 3 * body[5], 3)
        }

    def _read_tables(self, body: bytes) -> None:
        at = 0
        while at + 17 < len(body):
            self.flat_zeros &= body[at + 17] == 0
            at += 17 + sum(body[at + 1 : at + 17])

    def _end_of_scan(self, start: int) -> int:
        found = _MARKER.search(self.data, start)
        end = found.start() if found else len(self.data)
        while self.data[end - 1] == 0xFF:  # fill bytes
            end -= 1
        return end

    def _read_scan(self, body: bytes, start: int) -> _Scan:
        count = body[0]
        first, last, bits = body[1 + 2 * count : 4 + 2 * count]
        components = tuple(body[1 : 1 + 2 * count : 2])
        return _Scan(components, range(first, min(last, 63) + 1), bits & 15, start)


def has_gray_corner(image: Image.Image) -> bool:
    """Return whether the last pixel of a decoded JPEG has the gray of missing blocks."""
    last = image.getpixel((image.width - 1, image.height - 1))
    bands = last if isinstance(last, tuple) else (last,)
    return all(value is not None and 127 <= value <= 128 for value in bands)


def gray_tail(jpeg: JpegData) -> float:
    """Return the share of a plain picture, from below, for which there are no data.

    If different data after the end change the picture, it needs them.
    """
    as_is = _small(jpeg.data)
    continued = _small(jpeg.data[: jpeg.end] + _PADDING + b"\xff\xd9")
    if as_is is None or continued is None:
        return 0.0
    changed = ImageChops.difference(as_is, continued).getbbox()
    return 1 - changed[1] / as_is.height if changed else 0.0


def left_over(jpeg: JpegData) -> float:
    """Return the share of a plain picture's data that is left when all rows are decoded."""
    scan = jpeg.scans[0]
    length = jpeg.end - scan.start
    file = io.BytesIO(jpeg.data)
    with Image.open(file, formats=("JPEG",)) as image:
        _shrink(image)
        steps = max(_SLACK, length // 200)
        image.load_read = lambda count: file.read(min(count, steps))  # type: ignore[attr-defined]
        image.load()
    unused = jpeg.data[file.tell() : jpeg.end]
    padded = len(unused) < 512 and not unused.strip(b"\0")  # by the encoder
    return 0.0 if padded else len(unused) / max(1, length)


def _small(data: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            _shrink(image)
            return image.convert("RGB")
    except Exception:  # as in decode_image: nothing can be said of it
        return None


def _shrink(image: Image.Image) -> None:
    image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
