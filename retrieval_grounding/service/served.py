"""An index that is served."""

from __future__ import annotations

from ..core.lazy import Lazy
from ..core.query.value import Query
from ..index import Index
from ..indexing.model_spec import Models, checked_loader, recorded_spec
from ..matching.matcher import Matcher
from ..search.retriever import Retriever
from ..storage.catalog import Catalog
from .batching import Batcher

__all__ = ["ServedIndex"]


class ServedIndex:
    """An index that is served.

    Parameters
    ----------
    name : str
        As in URLs: letters, digits, ``-``, ``_`` and ``.``.
    index : Index
        Open; it follows writers by itself.
    batcher : Batcher
        Answers its queries.
    """

    def __init__(self, name: str, index: Index, batcher: Batcher) -> None:
        self.name = name
        self.index = index
        self.batcher = batcher
        self._models = Lazy(self._load_models)

    @property
    def catalog(self) -> Catalog:
        """The catalog, for what `Index` has no method for."""
        return self.index._catalog

    @property
    def retriever(self) -> Retriever:
        """What reads shards."""
        return self.index._opened.retriever

    def matcher_for(self, query: Query, feedback: bool) -> Matcher:
        """Return what scores regions for a query, with or without the thumbs for its phrases."""
        index = self.index
        if not feedback:
            return index.matcher
        listener = index._opened.listener
        return listener.listening(index.matcher, [query], self.retriever, index.encoder)

    def models(self) -> Models:
        """Return the models that built the index; loaded on first use.

        Raises
        ------
        ModelError
            If they cannot be loaded, or the detector was an object.
        """
        return self._models.get()

    def _load_models(self) -> Models:
        encoder = self.index.encoder
        spec = recorded_spec(self.catalog, encoder=encoder)
        return checked_loader(self.catalog, spec, self.index._opened.device)()
