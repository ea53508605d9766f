"""Networks between the one that training started from and the one that it ended with."""

from __future__ import annotations

import copy

from .trained import TrainedMatcher

__all__ = ["networks_on_the_way"]


def networks_on_the_way(
    trained: TrainedMatcher, start: TrainedMatcher | None, generated: bool
) -> dict[float, TrainedMatcher]:
    """Return networks on the way from where training started to where it ended, by share.

    Weights are rounded as in a file. Half of the way often keeps what the first one knew (Wortsman
    et al., Robust fine-tuning of zero-shot models, 2022); pseudo-queries, which know little of what
    people write, go no further.
    """
    if start is None:
        return {1.0: _as_stored(trained)}
    networks = {}
    first = start.model.state_dict()
    for share in (0.5,) if generated else (1.0, 0.5):
        mixed = copy.deepcopy(trained)
        for name, value in mixed.model.state_dict().items():
            value.copy_(first[name].to(value) + share * (value - first[name].to(value)))
        networks[share] = _as_stored(mixed)
    return networks


def _as_stored(matcher: TrainedMatcher) -> TrainedMatcher:
    """Return a copy of a matcher with its weights rounded as in its file."""
    model = copy.deepcopy(matcher.model)
    for value in model.state_dict().values():
        value.copy_(value.half())
    return TrainedMatcher(model.eval(), matcher.config, matcher.vocabulary, matcher.encoder)
