"""Camera raw files, written by hand, because no library writes one with a preview."""

from __future__ import annotations

import struct

import numpy as np

_BYTE, _TEXT, _SHORT, _LONG, _FRACTION, _SIGNED = 1, 2, 3, 4, 5, 10
_CODES = {_BYTE: "B", _SHORT: "H", _LONG: "I", _FRACTION: "I", _SIGNED: "i"}
_SENSOR = (32, 24)

Tag = tuple[int, int, list[int] | str]


def dng(
    preview: bytes,
    size: tuple[int, int],
    *,
    orientation: int = 1,
    gps: bool = False,
    version: int = 1,
) -> bytes:
    """Return a DNG (TIFF): a JPEG preview, tags of the camera, and values of a tiny sensor.

    With ``version=0`` it is not called a DNG, so it looks like a raw file of an unknown camera.
    """
    width, height = _SENSOR
    sensor = np.random.default_rng(0).integers(0, 4000, width * height).astype("<u2").tobytes()
    preview_at = 8
    sensor_at = preview_at + len(preview) + len(preview) % 2
    raw_at = sensor_at + len(sensor)
    raw = _directory(
        raw_at,
        [
            (254, _LONG, [0]), (256, _LONG, [width]), (257, _LONG, [height]), (258, _SHORT, [16]),
            (259, _SHORT, [1]), (262, _SHORT, [32803]), (273, _LONG, [sensor_at]),
            (277, _SHORT, [1]), (278, _LONG, [height]), (279, _LONG, [len(sensor)]),
            (33421, _SHORT, [2, 2]), (33422, _BYTE, [0, 1, 1, 2]), (50717, _LONG, [4000]),
        ],
    )  # fmt: skip
    place_at = raw_at + len(raw)
    place = _directory(place_at, [(1, _TEXT, "N"), (2, _FRACTION, [47, 1, 30, 1, 0, 1])])
    identity = [number for row in range(3) for column in range(3) for number in (row == column, 1)]
    tags: list[Tag] = [
        (254, _LONG, [1]), (256, _LONG, [size[0]]), (257, _LONG, [size[1]]),
        (258, _SHORT, [8, 8, 8]), (259, _SHORT, [7]), (262, _SHORT, [6]),
        (271, _TEXT, "Example"), (272, _TEXT, "Example One"), (273, _LONG, [preview_at]),
        (274, _SHORT, [orientation]), (277, _SHORT, [3]), (278, _LONG, [size[1]]),
        (279, _LONG, [len(preview)]), (306, _TEXT, "2024:05:06 07:08:09"), (330, _LONG, [raw_at]),
    ]  # fmt: skip
    if gps:
        tags.append((34853, _LONG, [place_at]))
    if version:
        tags += [
            (50706, _BYTE, [version, 4, 0, 0]), (50708, _TEXT, "Example One"),
            (50721, _SIGNED, identity), (50728, _FRACTION, [1, 1, 1, 1, 1, 1]),
        ]  # fmt: skip
    first_at = place_at + len(place)
    head = b"II*\0" + struct.pack("<I", first_at)
    filled = preview + b"\0" * (len(preview) % 2)
    return head + filled + sensor + raw + place + _directory(first_at, tags)


def _directory(at: int, tags: list[Tag]) -> bytes:
    """Return a directory of TIFF tags that begins `at` bytes from the start of the file."""
    entries, beyond = struct.pack("<H", len(tags)), b""
    beyond_at = at + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        if isinstance(values, str):
            data, count = values.encode() + b"\0", len(values) + 1
        else:
            data = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
            count = len(values) // (2 if kind in (_FRACTION, _SIGNED) else 1)
        if len(data) > 4:
            place = struct.pack("<I", beyond_at + len(beyond))
            beyond += data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, count) + place
    return entries + struct.pack("<I", 0) + beyond
