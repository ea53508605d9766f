"""The command line. Each command imports the heavy modules it needs, so --help is instant."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..core.errors import GroundingError
from ..core.version import __version__
from .build import build
from .calibrate import calibrate
from .demo import demo
from .evaluate import evaluate
from .info import info, models
from .logs import Verbose
from .maintain import compact, reindex, relocate, remove
from .matcher import matcher
from .output import BrokenOutputError, end_like_a_broken_pipe, note, prepare_streams, say
from .search import ground, query
from .train import train
from .verify import verify

app = typer.Typer(
    name="retrieval-grounding",
    help="Find the region a phrase refers to, in a whole collection of images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


_COMMANDS = (
    build, info, models, demo, query, ground, train, evaluate, remove, compact, verify, reindex,
    relocate, calibrate,
)  # fmt: skip
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(matcher, name="matcher")


def main() -> None:
    """Run the command line; an error is one sentence on stderr and exit code 1."""
    import atexit
    import gc
    import warnings

    # Starting makes 200,000 objects that stay. Looking for garbage among them takes a tenth of
    # the start, and half a second at the end, when the system frees them anyway.
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)
    # Pillow warns of large images that are allowed; larger ones are skipped and reported.
    warnings.filterwarnings("ignore", message=".*decompression bomb.*")
    prepare_streams()
    try:
        app()
    except BrokenOutputError:
        end_like_a_broken_pipe()
    except GroundingError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            end_like_a_broken_pipe()
        note(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        note(f"error: {error.strerror or error}{place}")
        sys.exit(1)


def _version(value: bool) -> None:
    if value:
        say(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Verbose = 0,
) -> None:
    pass
