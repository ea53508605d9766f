"""Lists of hits, which can be shown, saved and handed to other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from ..core.errors import GroundingError
from ..core.hits import EXPORTS, Hit
from ..core.output_file import write_output
from ..core.reports import SkippedFile
from ..core.strict_json import json_text
from ..core.types import PathLike

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import supervision

__all__ = ["Hits"]

_SHOWN = 10


class Hits(list[Hit]):
    """Hits, best first: a list that also knows how to show, save and convert itself.

    Returned by :meth:`Index.query`, and by :func:`ground` for several phrases. The answers to
    several phrases are a list of these; ``sum(answers, rg.Hits())`` joins them. In a notebook it
    shows the photographs with their boxes. Exports name phrases as classes, and import other
    libraries only when they are called.

    Examples
    --------
    >>> hits = Hits([Hit("a red car", "street.jpg", (10, 20, 50, 60), 2.17, 0.74, "car", 7)])
    >>> hits
    [<Hit 74% 'a red car' in street.jpg, box 10 20 50 60>]
    >>> hits.rows()[0]["x1"], len(hits + hits), hits == list(hits)
    (10, 2, True)
    """

    @overload
    def __getitem__(self, index: SupportsIndex) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> Hits: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Hit | Hits:
        """Return one hit, or the hits of a slice."""
        if isinstance(index, slice):
            return Hits(super().__getitem__(index))
        return super().__getitem__(index)

    def __add__(self, other: list[Hit]) -> Hits:  # type: ignore[override]
        """Return the hits of both lists."""
        return Hits([*self, *other])

    def copy(self) -> Hits:
        """Return a list of the same hits."""
        return Hits(self)

    def __repr__(self) -> str:
        lines = [repr(hit) for hit in self[:_SHOWN]]
        if len(self) > _SHOWN:
            lines.append(f"… {len(self) - _SHOWN:,} more")
        return "[" + ",\n ".join(lines) + "]"

    def _repr_html_(self) -> str:
        """Show photographs with their boxes in a notebook."""
        from .notebook import hits_html

        return hits_html(self)

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary of plain values for each hit; box and size are in parts."""
        from .export.tables import hit_row

        return [hit_row(hit) for hit in self]

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas table with one row for each hit. Needs pandas.

        Columns are the fields of :class:`Hit`, with the box as ``x1``, ``y1``, ``x2``, ``y2`` and
        the size of the image as ``image_width``, ``image_height``.
        """
        from .export.tables import to_frame

        return to_frame(self)

    def to_coco(self) -> dict[str, Any]:
        """Return a COCO data set, ready for JSON: phrases are categories, hits annotations.

        The ``score`` of an annotation is the probability, or the hit's score if it has none.

        Raises
        ------
        ImageError
            If the size of a photograph is unknown and it cannot be read.
        """
        from .export.detections import to_coco

        return to_coco(self)

    def to_supervision(self) -> dict[str, supervision.Detections]:
        """Return one ``supervision.Detections`` for each photograph, by path. Needs supervision."""
        from .export.detections import to_supervision

        return to_supervision(self)

    def to_fiftyone(self, name: str | None = None) -> fiftyone.Dataset:
        """Return a FiftyOne data set with one sample for each photograph. Needs fiftyone.

        Parameters
        ----------
        name : str, optional
            Name of the data set.
        """
        from .export.detections import to_fiftyone

        return to_fiftyone(self, name)

    def save(self, path: PathLike) -> None:
        """Write the hits to a file; its suffix determines the format.

        Parameters
        ----------
        path : path
            ``.csv`` or ``.parquet`` with the columns of :meth:`to_frame`, or ``.json`` in the
            format of COCO.

        Raises
        ------
        GroundingError
            If the suffix is a different one, or the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in EXPORTS:
            raise GroundingError(
                f"cannot write {path}: use a name that ends in {', '.join(EXPORTS)}"
            )
        if suffix == ".json":
            write_output(path, json_text(self.to_coco(), ensure_ascii=True).encode("ascii"))
            return
        from .export.tables import csv_bytes, parquet_bytes

        write_output(path, csv_bytes(self) if suffix == ".csv" else parquet_bytes(self))

    def save_crops(self, folder: PathLike) -> list[SkippedFile]:
        """Write the region of each hit as a JPEG, in a folder for each phrase, best first.

        Parameters
        ----------
        folder : path
            A new or empty folder, or a name that ends in ``.zip``.

        Returns
        -------
        list of SkippedFile
            Photographs that could not be read, or have changed since they were indexed.

        Raises
        ------
        GroundingError
            If the folder has files in it, or something cannot be written.
        """
        from .export.pictures import save_crops

        return save_crops(self, folder)

    def save_yolo(self, folder: PathLike) -> list[SkippedFile]:
        """Write a data set that ultralytics trains on: photographs, labels and ``data.yaml``.

        Parameters, results and errors are those of :meth:`save_crops`. Phrases are the classes.
        """
        from .export.pictures import save_yolo

        return save_yolo(self, folder)
