"""Which files have the name of an image, and which of those cannot be decoded."""

from __future__ import annotations

from ..core.reports import SkippedFile

__all__ = ["IMAGE_SUFFIXES", "suffix_of", "unsupported"]


IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .avif .mpo"
    " .jp2 .j2k .jpx .jpf .ppm .pgm .pbm .pnm .heic .heics .heif .heifs .hif"
    # Camera raw
    " .3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .gpr .iiq .kdc .mef .mos .mrw .nef .nrw .orf"
    " .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)
"""Suffixes, in lower case, of the files to use in a folder."""

_CONVERT = "convert it to JPEG or PNG"
_KINDS = {
    "avci": (".avci", _CONVERT),
    "jxl": (".jxl", _CONVERT),
    "svg": (".svg .svgz", "a drawing without pixels; export it as PNG"),
    "pdf": (".pdf", "a document; export its pages as images"),
    "eps": (".ai .eps .ps .emf .wmf", "a drawing without pixels; export it as PNG"),
    "psd": (".psd .psb .xcf .kra .afphoto", "a project of an image editor; export it as JPEG"),
    "ico": (".ico .icns .cur", _CONVERT),
    "exr": (".exr .hdr .dds .tga .pcx .xpm .xbm .qoi .sgi .bpg .wdp .jxr .ora", _CONVERT),
}
_ARCHIVES = frozenset(".tgz .gz .bz2 .xz .7z .rar .zst .cbr".split())

_REASONS = {
    suffix: (f"{kind}-not-supported", detail)
    for kind, (suffixes, detail) in _KINDS.items()
    for suffix in suffixes.split()
}


def suffix_of(name: str) -> str:
    """Return the suffix of a file name, in lower case and with its dot; "" if there is none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""


def unsupported(path: str, *, archives: bool = False) -> SkippedFile | None:
    """Return why a file of this name cannot be indexed, or None if its content decides.

    Parameters
    ----------
    path : str
        Absolute path.
    archives : bool
        Also name archives, which do not have the name of an image.
    """
    suffix = suffix_of(path)
    if known := _REASONS.get(suffix):
        return SkippedFile(path, *known)
    if archives and suffix in _ARCHIVES:
        detail = "unpack it, or pack it again as .zip or .tar without compression"
        return SkippedFile(path, "archive-not-supported", detail)
    return None
