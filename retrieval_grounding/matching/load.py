"""Loading a matcher by name, and the choice of one: the index's own, the bundled one, or cosine."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from ..core.errors import ModelError, StoreError
from ..models.encoder import Fingerprint
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from .bundled import bundled_by_default, bundled_matcher, nano_matcher
from .collection import with_own_calibration
from .cosine_scale import catalog_scale
from .entries import refuse_link
from .install import chosen_matcher, recorded_checksums
from .label_matcher import label_matcher
from .matcher import CosineMatcher, Matcher
from .matcher_header import DamagedMatcherError
from .names import BUNDLED, COSINE, COSINE_LABEL, EARLIER, matcher_files, own_names

if TYPE_CHECKING:
    from .calibration import Calibration
    from .stored import StoredMatcher

__all__ = [
    "default_matcher",
    "is_network",
    "load_index_matcher",
    "load_named_matcher",
]


_log = logging.getLogger(__name__)


def load_index_matcher(catalog: Catalog, encoder: Fingerprint, device: str) -> Matcher:
    """Return the matcher that an index uses; see :func:`.entries.matcher_in_use`.

    Its probabilities are those that were fitted to the collection, if there are any. If the index's
    own matcher is damaged, a warning is logged and the bundled one or cosine is returned.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    encoder : Fingerprint
        The encoder that built it.
    device : str
        Where the matcher runs.

    Raises
    ------
    ModelError
        If the index's matcher was trained for a different encoder or by a different release.
    """
    while True:
        before = chosen_matcher(catalog), recorded_checksums(catalog)
        name = before[0] or EARLIER
        if before[0] is None and not os.path.lexists(catalog.directory / matcher_files(name)[0]):
            return default_matcher(encoder, device, catalog)
        damage: BaseException | None
        try:
            matcher = _load(catalog, name, encoder, device)
        except DamagedMatcherError as error:
            damage = error.__cause__
        except (StoreError, OSError) as error:  # it is a link, a folder, a pipe, or out of reach
            damage = error
        else:
            return with_own_calibration(catalog, matcher)
        if (chosen_matcher(catalog), recorded_checksums(catalog)) == before:
            break  # else a training has just replaced the file
    best = default_matcher(encoder, device, catalog)
    instead = "cosine" if isinstance(best, CosineMatcher) else "the bundled matcher"
    _log.warning(
        "%s cannot be used (%s), so regions are ranked by %s; "
        "'retrieval-grounding verify %s --repair' moves it aside",
        f"{catalog.directory}/{matcher_files(name)[0]}",
        damage,
        instead,
        catalog.directory,
    )
    return best


def load_named_matcher(catalog: Catalog, name: str, encoder: Fingerprint, device: str) -> Matcher:
    """Return a matcher of an index by its name.

    Parameters
    ----------
    catalog, encoder, device
        As for :func:`load_index_matcher`.
    name : str
        ``"bundled"``, ``"cosine"``, ``"cosine+label"``, or one of the index's own.

    Raises
    ------
    ModelError
        If there is none of that name, or it does not fit the encoder, or is of a different release.
    DamagedMatcherError
        If its file is missing or damaged.
    StoreError
        If there is something else in the place of its file.
    """
    if name not in (COSINE, COSINE_LABEL, BUNDLED):
        refuse_link(catalog)
    own = own_names(catalog.directory)
    if name not in (COSINE, COSINE_LABEL, BUNDLED, *own):
        raise ModelError(
            f"{catalog.directory} has no matcher {name!r}; it has "
            f"{', '.join([*own, BUNDLED, COSINE, COSINE_LABEL])}"
        )
    return with_own_calibration(catalog, _load(catalog, name, encoder, device))


def _load(catalog: Catalog, name: str, encoder: Fingerprint, device: str) -> Matcher:
    if name == COSINE:
        return CosineMatcher(_cosine_calibration(catalog))
    if name == COSINE_LABEL:
        keys = dict.fromkeys((image.shard, image.row) for image in catalog.images())
        with contextlib.closing(RegionStore(catalog)) as store:
            return label_matcher(store, keys)
    if name == BUNDLED:
        return bundled_matcher(catalog, encoder, device)
    stored = _load_own(catalog, name, encoder, device)
    anchored = stored.recipe.anchor == BUNDLED
    return stored.prepared(bundled_matcher(catalog, encoder, device) if anchored else None)


def default_matcher(encoder: Fingerprint, device: str, catalog: Catalog | None = None) -> Matcher:
    """Return the bundled matcher, or cosine if it is not known to serve `encoder`.

    That for every encoder needs an index: it tells how cosines of an encoder are spread.

    Parameters
    ----------
    encoder : Fingerprint
        The encoder that made the embeddings.
    device : str
        Where the matcher runs.
    catalog : Catalog, optional
        An index, which may have probabilities of its own.
    """
    matcher: Matcher | None = nano_matcher(encoder, device)
    if matcher is None and catalog is not None and bundled_by_default(catalog, encoder):
        matcher = bundled_matcher(catalog, encoder, device)
    if matcher is None:
        _log.info("no trained matcher fits embeddings of %s; regions are ranked by cosine", encoder)
        matcher = CosineMatcher(None if catalog is None else _cosine_calibration(catalog))
    return matcher if catalog is None else with_own_calibration(catalog, matcher)


def is_network(matcher: Matcher) -> bool:
    """Return whether a matcher is a trained network, and not a blend of one."""
    from .trained import TrainedMatcher

    return isinstance(matcher, TrainedMatcher)


def _load_own(catalog: Catalog, name: str, encoder: Fingerprint, device: str) -> StoredMatcher:
    from .stored import load_stored

    refuse_link(catalog)
    file = matcher_files(name)[0]
    checksums = recorded_checksums(catalog).get(file, ())
    matcher = load_stored(catalog.directory / file, device, checksums)
    matcher.network.check(encoder)
    if matcher.network.encoder.matches(encoder):
        return matcher
    return matcher.for_encoder(encoder, catalog_scale(catalog))


def _cosine_calibration(catalog: Catalog) -> Calibration | None:
    from .calibrate import read_cosine_calibration  # fitting needs much that starting does not

    return read_cosine_calibration(catalog)
