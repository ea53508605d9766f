"""Links in a terminal (OSC 8), where it is known to understand them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..core.addresses import link_to

__all__ = ["file_link", "supports_links"]

_PROGRAMS = frozenset(("iTerm.app", "WezTerm", "vscode", "ghostty", "Hyper", "Tabby", "rio"))
_TERMINALS = frozenset(("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "contour", "wezterm"))
_SIGNS = ("WT_SESSION", "KONSOLE_VERSION", "DOMTERM", "KITTY_WINDOW_ID")
_FIRST_VTE = 5000  # the version of the library of GNOME's and other terminals


def supports_links(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the terminal is known to show links.

    ``FORCE_HYPERLINK`` decides if it is set: 0 for no, anything else for yes.

    Examples
    --------
    >>> supports_links({"TERM": "xterm-kitty"}), supports_links({"TERM": "linux"})
    (True, False)
    >>> supports_links({"TERM": "xterm-kitty", "FORCE_HYPERLINK": "0"})
    False
    """
    forced = environment.get("FORCE_HYPERLINK")
    if forced:
        return forced != "0"
    terminal = environment.get("TERM", "")
    if terminal == "dumb" or terminal.startswith(("screen", "tmux")):  # they may drop the link
        return False
    version = environment.get("VTE_VERSION", "")
    return (
        terminal in _TERMINALS
        or environment.get("TERM_PROGRAM") in _PROGRAMS
        or any(environment.get(name) for name in _SIGNS)
        or (version.isdecimal() and int(version) >= _FIRST_VTE)
    )


def file_link(text: str, path: str) -> str:
    r"""Return a text that leads to an image; the text itself if nothing leads there.

    Examples
    --------
    >>> file_link("a.jpg", "photos/a.jpg")
    'a.jpg'
    """
    target = link_to(path)
    return f"\x1b]8;;{target}\x1b\\{text}\x1b]8;;\x1b\\" if target else text
