"""The benchmarks that can be reproduced: what they consist of, and who publishes it."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import GroundingError

__all__ = ["DATASETS", "DataSet", "Part", "get_dataset"]


@dataclass(frozen=True)
class Part:
    """Something that a publisher offers for download.

    Parameters
    ----------
    name : str
        What it is.
    address : str
        Where its publisher offers it.
    size : str
        Its approximate size.
    checksum : str
        Of the archive, with its kind; empty if none is known.
    terms : str
        The terms of use.
    """

    name: str
    address: str
    size: str
    checksum: str
    terms: str


@dataclass(frozen=True)
class DataSet:
    """A benchmark, and where its parts are below the folder that a user names.

    Parameters
    ----------
    name : str
        What the command line calls it.
    title : str
        What people call it.
    folders : tuple of str
        Where its expressions may be; ``""`` is the folder itself.
    images : tuple of str
        Where its photographs may be.
    parts : tuple of Part
        What has to be there.
    needs : str
        The files that the folder of expressions must contain.
    image_count : int
        Photographs that its expressions are about.
    reference : float or None
        Mean IoU of the course project from which this library grew, if it used this benchmark.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    images: tuple[str, ...]
    parts: tuple[Part, ...]
    needs: str
    image_count: int
    reference: float | None = None


_COCO = Part(
    "photographs: COCO train2014",
    "http://images.cocodataset.org/zips/train2014.zip",
    "13.5 GB, 82,783 files",
    "MD5 0da8c0bd3d6becc4dcb32757491aca88",
    "Flickr's terms and the photographs' own licenses; COCO's terms of use",
)
_COCO_FOLDERS = (
    "train2014",
    "images/train2014",
    "images/mscoco/images/train2014",
    "coco/train2014",
    "images",
)
_REFER_TERMS = "free for research; cite Kazemzadeh et al. 2014 and Yu et al. 2016"


def _refer(name: str, captured: str, sha256: str) -> Part:
    """Return the expressions of one of REFER's data sets, whose own server is often down."""
    server = f"https://bvisionweb1.cs.unc.edu/licheng/referit/data/{name}.zip"
    checksum = f"SHA-256 {sha256} (of the archived copy)" if sha256 else ""
    return Part(
        f"expressions: REFER's {name}.zip",
        f"{server} or https://web.archive.org/web/{captured}/{server}",
        "some tens of MB",
        checksum,
        _REFER_TERMS,
    )


def _places(name: str) -> tuple[str, ...]:
    return name, f"data/{name}", f"refer/data/{name}", ""


DATASETS = {
    dataset.name: dataset
    for dataset in (
        DataSet(
            "refcocog",
            "RefCOCOg",
            _places("refcocog"),
            _COCO_FOLDERS,
            (
                _refer(
                    "refcocog",
                    "20220413012904",
                    "3d1f7e5b2ff2205940bf59de55f861f5f2cc1403fb980669933a7f9af1aa8211",
                ),
                _COCO,
            ),
            "instances.json with refs(umd).p, refs(google).p or both",
            26_711,
            0.52,
        ),
        DataSet(
            "refcoco",
            "RefCOCO",
            _places("refcoco"),
            _COCO_FOLDERS,
            (
                _refer(
                    "refcoco",
                    "20220413011718",
                    "7f924bb7ed8dc4568058e4ff626281918d56e5206f4c868c5a80f088f38c8bf0",
                ),
                _COCO,
            ),
            "instances.json with refs(unc).p, refs(google).p or both",
            19_994,
        ),
        DataSet(
            "refcoco+",
            "RefCOCO+",
            _places("refcoco+"),
            _COCO_FOLDERS,
            (
                _refer(
                    "refcoco+",
                    "20220413011656",
                    "5f1238112d63199e68da54a28f201471909b21ded7ed79a57d51b4c1443c6b45",
                ),
                _COCO,
            ),
            "instances.json with refs(unc).p",
            19_992,
        ),
        DataSet(
            "refclef",
            "ReferItGame (RefCLEF)",
            _places("refclef"),
            ("saiapr_tc-12", "images/saiapr_tc-12", "images"),
            (
                _refer("refclef", "20220413011817", ""),
                Part(
                    "photographs: REFER's part of SAIAPR TC-12",
                    "https://bvisionweb1.cs.unc.edu/licheng/referit/data/images/saiapr_tc-12.zip",
                    "about 2 GB, 19,997 files",
                    "",
                    "free for research; cite Escalante et al. 2010",
                ),
            ),
            "instances.json with refs(unc).p, refs(berkeley).p or both",
            19_997,
        ),
        DataSet(
            "flickr30k-entities",
            "Flickr30k Entities",
            ("flickr30k_entities", "entities", "annotations", ""),
            ("flickr30k-images", "flickr30k_images", "images"),
            (
                Part(
                    "phrases: annotations.zip, train.txt, val.txt, test.txt",
                    "https://github.com/BryanPlummer/flickr30k_entities",
                    "about 150 MB unpacked",
                    "",
                    "cite Plummer et al. 2015 and Young et al. 2014",
                ),
                Part(
                    "photographs: flickr30k-images",
                    "http://hockenmaier.cs.illinois.edu/DenotationGraph/ (a form to fill in)",
                    "about 4.4 GB, 31,783 files",
                    "",
                    "Flickr's terms; for non-commercial research and education only",
                ),
            ),
            "Annotations, Sentences, train.txt, val.txt and test.txt",
            31_783,
        ),
    )
}
"""By the name on the command line."""


def get_dataset(name: str) -> DataSet:
    """Return the benchmark called `name`.

    Raises
    ------
    GroundingError
        If there is none; the message lists the names.
    """
    if name not in DATASETS:
        known = ", ".join((*DATASETS, "expressions"))
        raise GroundingError(f"there is no data set {name!r}; choose one of {known}")
    return DATASETS[name]
