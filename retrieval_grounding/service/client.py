"""A client of the service, with the methods and types of an open index."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, overload
from urllib.parse import quote

import httpx
from PIL import Image

from ..core import errors
from ..core.errors import GroundingError, ImageError
from ..core.hits import Hit, Similar
from ..core.phrases import clean_phrase
from ..core.query.examples import Example
from ..core.query.value import Query
from ..core.strict_json import json_text
from ..data.image_source import ImageSource, read_source
from ..search.hits import Hits

__all__ = ["RemoteIndex", "ask", "connect", "open_http"]

_AT_ONCE = 64  # queries in a request
_API = "/api/v1"


def connect(
    url: str, *, token: str | None = None, index: str | None = None, timeout: float = 60.0
) -> RemoteIndex:
    """Connect to a service that ``retrieval-grounding serve`` runs.

    Parameters
    ----------
    url : str
        Its address, such as ``http://127.0.0.1:8770``.
    token : str, optional
        The token, if it has one.
    index : str, optional
        Name of one of its indexes; the first if left out.
    timeout : float
        Seconds to wait for an answer.

    Returns
    -------
    RemoteIndex
        Has the methods of :class:`Index` that a service offers.

    Raises
    ------
    GroundingError
        If there is no service, it refuses the token, or has no such index.
    """
    http = open_http(url, token, timeout)
    names = [facts["name"] for facts in ask(http, "GET", f"{_API}/indexes").json()["indexes"]]
    if index is not None and index not in names:
        raise GroundingError(f"the service has no index {index!r}; it has {', '.join(names)}")
    return RemoteIndex(http, index or names[0])


def open_http(url: str, token: str | None, timeout: float) -> httpx.Client:
    """Return a client of HTTP for a service.

    Raises
    ------
    GroundingError
        If the URL is not one.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        return httpx.Client(base_url=url, headers=headers, timeout=timeout)
    except (httpx.InvalidURL, TypeError) as error:
        raise GroundingError(f"{url!r} is not the address of a service: {error}") from error


def ask(http: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response:
    """Return an answer, unless it is an error.

    Raises
    ------
    GroundingError
        What the service answers, as the library would have raised it here; or that it does not.
    """
    try:
        answer = http.request(method, path, **options)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise GroundingError(
            f"the service at {http.base_url} does not answer ({reason}); start one with "
            "'retrieval-grounding serve INDEX'"
        ) from error
    if answer.is_success:
        return answer
    raise _error_of(answer)


class RemoteIndex:
    """An index that a service has opened; threads may share it. See :func:`connect`.

    Methods have the parameters, results and errors of those of :class:`Index`. It closes with
    :meth:`close` or a ``with`` block.

    Attributes
    ----------
    name : str
        Of the index, in the service.
    """

    def __init__(self, http: httpx.Client, name: str) -> None:
        self._http = http
        self.name = name
        self._base = f"/indexes/{quote(name)}"

    @overload
    def query(
        self,
        phrases: str | Query,
        top: int = ...,
        candidates: int = ...,
        min_probability: float | None = ...,
        matcher: str | None = ...,
        exact: bool = ...,
        skip_missing: bool = ...,
        feedback: bool = ...,
    ) -> Hits: ...

    @overload
    def query(
        self,
        phrases: list[str] | list[Query] | list[str | Query] | tuple[str | Query, ...],
        top: int = ...,
        candidates: int = ...,
        min_probability: float | None = ...,
        matcher: str | None = ...,
        exact: bool = ...,
        skip_missing: bool = ...,
        feedback: bool = ...,
    ) -> list[Hits]: ...

    def query(
        self,
        phrases: str
        | Query
        | list[str]
        | list[Query]
        | list[str | Query]
        | tuple[str | Query, ...],
        top: int = 10,
        candidates: int = 100,
        min_probability: float | None = 0.0,
        matcher: str | None = None,
        exact: bool = False,
        skip_missing: bool = False,
        feedback: bool = True,
    ) -> Hits | list[Hits]:
        """Find the regions that phrases refer to; see :meth:`Index.query`.

        Images of examples are read here and sent.
        """
        single = isinstance(phrases, (str, Query))
        asked = [phrases] if isinstance(phrases, (str, Query)) else list(phrases)
        queries = [one if isinstance(one, Query) else Query(clean_phrase(one)) for one in asked]
        found: list[Hits] = []
        for start in range(0, len(queries), _AT_ONCE):
            request = {
                "index": self.name,
                "queries": [_query_values(query) for query in queries[start : start + _AT_ONCE]],
                "top": top,
                "candidates": candidates,
                "min_probability": min_probability,
                "matcher": matcher,
                "exact": exact,
                "skip_missing": skip_missing,
                "feedback": feedback,
            }
            answers = self._send("POST", "/query", json=request)["answers"]
            found += [Hits(map(_hit, answer["hits"])) for answer in answers]
        return found[0] if single else found

    @overload
    def ground(self, image: ImageSource, phrases: str) -> Hit: ...

    @overload
    def ground(self, image: ImageSource, phrases: list[str] | tuple[str, ...]) -> Hits: ...

    def ground(self, image: ImageSource, phrases: str | list[str] | tuple[str, ...]) -> Hit | Hits:
        """Find the region of one image that a phrase refers to; see :func:`ground`."""
        texts = [phrases] if isinstance(phrases, str) else list(phrases)
        if not texts:
            return Hits()
        params = [("phrase", text) for text in texts] + [("index", self.name)]
        answer = self._send("POST", "/ground", params=params, content=_file_bytes(image))
        hits = Hits(map(_hit, answer["hits"]))
        return hits[0] if isinstance(phrases, str) else hits

    def regions(self, content_hash: str, phrase: str | None = None) -> Hits:
        """Return all regions of one image; see :meth:`Index.regions`."""
        params = {} if phrase is None else {"phrase": phrase}
        path = f"{self._base}/images/{quote(content_hash)}/regions"
        found = self._send("GET", path, params=params)
        return Hits(
            Hit(
                phrase="" if phrase is None else clean_phrase(phrase),
                image=found["paths"][0],
                box=tuple(region["box"]),
                score=region.get("score", region["label_score"]),
                probability=region.get("probability"),
                label=region["label"],
                region_id=region["region_id"],
                content_hash=content_hash,
                label_score=region["label_score"],
                image_size=(found["width"], found["height"]),
                image_probability=region.get("image_probability"),
            )
            for region in found["regions"]
        )

    def picture(self, hit: Hit) -> tuple[Image.Image, Hit]:
        """Return the picture of a hit, and the hit with its box in pixels of that picture."""
        if hit.content_hash is None or hit.image_size is None:
            raise ImageError("missing", "the hit is not of an image of the index")
        path = f"{_API}{self._base}/images/{quote(hit.content_hash)}"
        answer = ask(self._http, "GET", path, params={"side": 4096})
        image = Image.open(io.BytesIO(answer.content)).convert("RGB")
        scale = image.width / hit.image_size[0]
        x1, y1, x2, y2 = (value * scale for value in hit.box)
        return image, replace(hit, box=(x1, y1, x2, y2))

    def add(
        self,
        images: ImageSource | list[ImageSource],
        *,
        ids: Sequence[object] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """Add images to the index, if the service is writable; return what became of each.

        Each gets the address ``content:HASH``, wherever it comes from.
        """
        several = images if isinstance(images, list) else [images]
        outcomes = []
        for number, image in enumerate(several):
            params: dict[str, str] = {}
            if ids is not None:
                params["id"] = str(ids[number])
            if metadata is not None:
                params["metadata"] = json_text(dict(metadata[number]))
            path = f"{self._base}/images"
            outcomes.append(self._send("POST", path, params=params, content=_file_bytes(image)))
        return outcomes

    def remove(self, content_hash: str) -> int:
        """Remove an image from the index, if the service is writable; return how many paths."""
        answer = self._send("DELETE", f"{self._base}/images/{quote(content_hash)}")
        return int(answer["removed"])

    def images(self) -> Iterator[dict[str, Any]]:
        """Yield every image of the index, by path, as plain values."""
        after: str | None = ""
        while after is not None:
            page = self._send("GET", f"{self._base}/images", params={"after": after, "limit": 1000})
            yield from page["images"]
            after = page["next"]

    def skipped(self) -> list[dict[str, Any]]:
        """Return files that could not be indexed, and why, as plain values; at most 1,000."""
        found: list[dict[str, Any]] = self._get(f"{self._base}/skipped")["skipped"]
        return found

    def info(self) -> dict[str, Any]:
        """Return what the index holds, what built it and what runs where; see `Index.info`."""
        return self._get(self._base)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> RemoteIndex:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.info()["images"])

    def __repr__(self) -> str:
        return f"<RemoteIndex {self.name!r} at {self._http.base_url}>"

    def _get(self, path: str) -> dict[str, Any]:
        return self._send("GET", path)

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        values: dict[str, Any] = ask(self._http, method, _API + path, **options).json()
        return values


def _error_of(answer: httpx.Response) -> GroundingError:
    """Return the error that the library would have raised here."""
    try:
        values = answer.json()
        message, kind = str(values["error"]), str(values["kind"])
    except (ValueError, LookupError, TypeError):
        return GroundingError(f"the service answers with status {answer.status_code}")
    known = getattr(errors, kind, GroundingError)
    if known is ImageError:
        reason = str(values.get("reason", "unknown"))
        return ImageError(reason, message.removeprefix(f"{reason}: "))
    made: GroundingError = known(message)
    return made


def _hit(values: dict[str, Any]) -> Hit:
    known = {
        name: value
        for name, value in values.items()
        if name not in ("matches", "pictures", "explanation")
    }
    known["box"] = tuple(known["box"])
    if known.get("image_size") is not None:
        known["image_size"] = tuple(known["image_size"])
    known["also"] = tuple(map(_hit, known.get("also", ())))
    known["similar"] = tuple(Similar(**found) for found in known.get("similar", ()))
    return Hit(**known)


def _query_values(query: Query) -> dict[str, Any]:
    values = {
        "phrase": query.phrase,
        "unwanted": query.unwanted,
        "also": query.also,
        "like": [_example_values(example) for example in query.like],
        "filters": asdict(query.filters),
        "top": query.top,
        "min_probability": query.min_probability,
        "scope": query.scope,
        "unique": query.unique,
        "diverse": query.diverse,
    }
    return {name: value for name, value in values.items() if value is not None}


def _example_values(example: Example) -> dict[str, Any]:
    values: dict[str, Any] = {
        "box": example.box,
        "content_hash": example.content_hash,
        "region": example.region,
        "vector": example.vector,
        "weight": example.weight,
    }
    if example.image is not None:
        values["image"] = base64.b64encode(_file_bytes(example.image)).decode("ascii")
    return {name: value for name, value in values.items() if value is not None}


def _file_bytes(image: ImageSource) -> bytes:
    """Return an image as the bytes of a file: pixels become a PNG."""
    read = read_source(image)
    if isinstance(read, bytes):
        return read
    buffer = io.BytesIO()
    read.save(buffer, "PNG")
    return buffer.getvalue()
