"""What an open index consists of, and how it follows writers, forks and its end."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import GroundingError, StoreError
from ..core.fork import renew_after_fork
from ..core.lazy import Lazy
from ..core.paths import expand_home
from ..indexing.model_spec import (
    absolute_model,
    check_encoder,
    encoder_fingerprint,
    load_index_encoder,
)
from ..matching.entries import matcher_entries
from ..matching.install import chosen_matcher
from ..matching.load import is_network, load_index_matcher, load_named_matcher
from ..matching.matcher import Matcher
from ..matching.names import COSINE, COSINE_LABEL, EARLIER, matcher_files
from ..models.device import resolve_device
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.feedback_file import FeedbackFile
from .listening import Listener
from .retriever import Retriever

if TYPE_CHECKING:
    from ..data.decoder import Decoder

__all__ = ["OpenedIndex"]


class OpenedIndex:
    """The catalog, the models and the retriever of an open index; threads may share it.

    A forked child opens the files again when it first uses them, and keeps the encoder. A matcher
    that is trained meanwhile is taken up.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    encoder : str, Encoder or None
        As for `Index`.
    device : str
        Where the models run.

    Attributes
    ----------
    directory : Path
        Absolute.
    closed : bool
        Whether it has been closed.
    encoder_name : str or None
        The encoder that was given by name.
    has_encoder_object : bool
        Whether it was given as an object.
    feedback_file : FeedbackFile
        What people think of the hits.
    listener : Listener
        What queries make of that.

    Raises
    ------
    StoreError
        If there is no index, or it cannot be used.
    ModelError
        If `encoder` is an object that did not build the index.
    """

    def __init__(self, directory: Path, encoder: str | Encoder | None, device: str) -> None:
        directory = Path(expand_home(directory))
        if not Catalog.exists(directory):
            Catalog(directory)  # reports that, with the path as it was given
        self.directory = directory.absolute()
        self._device = device
        self.closed = False
        self.feedback_file = FeedbackFile(self.directory)
        self.listener = Listener(self.feedback_file)
        self._inherited: list[Catalog | None] = []
        self._forked_with_gpu = False
        self._decoder: Decoder | None = None
        self._end_decoder: Callable[[], object] = _nothing
        self.encoder_name: str | None = None
        if isinstance(encoder, (str, os.PathLike)):  # absolute before the current folder changes
            self.encoder_name = absolute_model(os.fspath(encoder))
        self.has_encoder_object = encoder is not None and self.encoder_name is None
        name = self.encoder_name
        self._encoder = Lazy(lambda: load_index_encoder(self.catalog, name, self.device))
        self._open_files()
        if encoder is not None and not isinstance(encoder, (str, os.PathLike)):
            check_encoder(self.catalog, encoder)
            self._encoder.set(encoder)
        else:
            _ = self.catalog
        renew_after_fork(self, OpenedIndex._renew)

    def _open_files(self) -> None:
        self._matcher_lock = threading.Lock()
        self._matchers: dict[str | None, tuple[object, Matcher]] = {}  # None: the one in use
        self._catalog = Lazy(lambda: Catalog(self.directory))
        self._retriever = Lazy(lambda: Retriever(self.catalog, self.device))

    def _renew(self) -> None:
        self._decoder, self._end_decoder = None, _nothing  # those of the parent
        # SQLite forbids a child even to close what its parent opened, so it is kept unused.
        self._inherited.append(self._catalog.peek())
        cuda = getattr(sys.modules.get("torch"), "cuda", None)
        self._forked_with_gpu = cuda is not None and cuda._is_in_bad_fork()
        self._open_files()

    @property
    def catalog(self) -> Catalog:
        """The catalog, for reading."""
        if self.closed:
            raise StoreError(f"the index {self.directory} is closed; open it again")
        return self._catalog.get()

    @property
    def device(self) -> str:
        """Where models run."""
        device = resolve_device(self._device)
        if self._forked_with_gpu and device.startswith("cuda"):
            raise GroundingError(
                "this process was forked from one that uses a GPU, which CUDA does not support; "
                "start it with the method 'spawn', or open indexes only after the fork"
            )
        return device

    @property
    def encoder(self) -> Encoder:
        """The encoder that built the index; loaded on first use."""
        if self._forked_with_gpu:
            _ = self.device
        encoder = self._encoder.get()
        if self.fits(encoder):
            return encoder
        if self.has_encoder_object:
            raise StoreError(
                f"the index {self.directory} has been embedded again, with "
                f"{encoder_fingerprint(self.catalog)}; open it again with that encoder"
            )
        self._encoder = Lazy(lambda: load_index_encoder(self.catalog, None, self.device))
        self._start_over()
        return self._encoder.get()

    def fits(self, encoder: Encoder) -> bool:
        """Return whether the index has the embeddings of an encoder now."""
        return encoder.fingerprint.matches(encoder_fingerprint(self.catalog))

    def replace_encoder(self, encoder: Encoder, name: str | None) -> None:
        """Use the encoder with which a writer of this process has just embedded the index again."""
        self.encoder_name, self.has_encoder_object = name, name is None
        self._encoder.set(encoder)
        self._start_over()

    def _start_over(self) -> None:
        """Forget what belongs to embeddings that the index no longer has."""
        retriever, self._matchers = self._retriever.peek(), {}
        self.listener = Listener(self.feedback_file)
        self._retriever = Lazy(lambda: Retriever(self.catalog, self.device))
        if retriever is not None:
            retriever.close()

    @property
    def matcher(self) -> Matcher:
        """The matcher of the index as it is now."""
        return self._kept_matcher(None)

    def named_matcher(self, name: str) -> Matcher:
        """Return a matcher by its name as it is now; see :func:`.load.load_named_matcher`."""
        return self._kept_matcher(name)

    def _kept_matcher(self, name: str | None) -> Matcher:
        catalog = self.catalog
        with self._matcher_lock:
            state = self._matcher_state(name)
            kept = self._matchers.pop(name, None)
            if kept is None or kept[0] != state:
                encoder = encoder_fingerprint(catalog)
                if name is None:
                    kept = state, load_index_matcher(catalog, encoder, self.device)
                else:
                    kept = state, load_named_matcher(catalog, name, encoder, self.device)
            self._matchers[name] = kept
            return kept[1]

    def rows_to_compare(
        self, names: Sequence[str] | None
    ) -> tuple[dict[str, Matcher], tuple[str, str] | None]:
        """Return the matchers of an evaluation, the simplest first; see `Index.evaluate`.

        Returns
        -------
        matchers : dict of str to Matcher
            By the names to show.
        blend : tuple of 2 str, or None
            Two of them, whose blend is to be measured as well.
        """
        simple = {name: self.named_matcher(name) for name in (COSINE, COSINE_LABEL)}
        if names is not None:
            chosen = {name: self.named_matcher(name) for name in names if name not in simple}
            return simple | chosen, None
        encoder = encoder_fingerprint(self.catalog)
        concat = {
            entry.name: self.named_matcher(entry.name)
            for entry in matcher_entries(self.catalog, encoder)
            if entry.kind == "concat" and not entry.in_use
        }
        used = self.matcher
        others = {name: matcher for name, matcher in simple.items() if name != used.name}
        blend = (used.name, COSINE_LABEL) if is_network(used) else None
        return others | concat | {used.name: used}, blend

    def _matcher_state(self, name: str | None) -> object:
        """Return what changes when a matcher does; the one in use if it has no name."""
        catalog = self.catalog
        chosen, own = name or chosen_matcher(catalog), catalog.setting("calibrations")
        if chosen == COSINE_LABEL:  # measures the images
            return chosen, catalog.generation, own
        file = matcher_files(chosen or EARLIER)[0]
        try:
            status = os.stat(self.directory / file)  # noqa: PTH116 - for every query
        except (OSError, ValueError):  # a name from a request may be none of a file
            return chosen, catalog.setting("cosine_calibration"), own
        return chosen, own, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    @property
    def retriever(self) -> Retriever:
        """What answers phrases."""
        _ = self.catalog  # refuses a closed index
        return self._retriever.get()

    @property
    def decoder(self) -> Decoder:
        """A process that decodes images to add; it starts with the first one."""
        _ = self.catalog  # refuses a closed index
        if self._decoder is None:
            from ..data.decoder import Decoder  # queries decode nothing

            self._decoder = Decoder()
            self._end_decoder = weakref.finalize(self, _close, self._decoder, os.getpid())
        return self._decoder

    def close_deleted_shards(self) -> None:
        """Close the shards that a writer of this process has just deleted."""
        if self._retriever.peek() is not None:
            self.retriever.snapshot()

    def close(self) -> None:
        """Close all files; may be called again."""
        self.closed = True
        retriever, catalog = self._retriever.peek(), self._catalog.peek()
        if retriever is not None:
            retriever.close()
        if catalog is not None:
            catalog.close()
        self._end_decoder()
        self._decoder = None
        self._retriever = Lazy(lambda: Retriever(self.catalog, self.device))
        self._matchers = {}


def _nothing() -> None:
    pass


def _close(decoder: Decoder, process: int) -> None:
    if os.getpid() == process:  # a forked child has a copy of it, but not the right to end it
        decoder.close()
