"""Log records of the library on stderr, and the option ``-v`` that selects them."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from .output import note

__all__ = ["Verbose"]

_LOGGER = logging.getLogger("retrieval_grounding")
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_COUNT = "retrieval_grounding.verbose"


class _StderrHandler(logging.Handler):
    """Writes each record as one line to the present ``sys.stderr``.

    While rich shows a progress bar, ``sys.stderr`` is its own stream, which prints lines above the
    bar; a stream that was kept from before would garble it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{record.levelname.lower()}: {record.getMessage()}"
        except Exception:  # the arguments do not fit the message
            self.handleError(record)
        else:
            note(line)


_HANDLER = _StderrHandler()


def _show_records(context: typer.Context, count: int) -> int:
    """Show records until the command ends; counts before and after the command add up."""
    total = context.meta.get(_COUNT, 0) + count
    context.meta[_COUNT] = total
    _LOGGER.addHandler(_HANDLER)
    _LOGGER.propagate = False  # libraries add handlers to the root logger, which would repeat it
    _LOGGER.setLevel(_LEVELS[min(total, len(_LEVELS) - 1)])
    context.call_on_close(_hide_records)
    return count


def _hide_records() -> None:
    _LOGGER.removeHandler(_HANDLER)
    _LOGGER.propagate = True
    _LOGGER.setLevel(logging.NOTSET)


Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        callback=_show_records,
        help="Show progress messages on stderr; -vv shows details.",
    ),
]
"""The option that every command takes. Its callback does the work, so the value is not used."""
