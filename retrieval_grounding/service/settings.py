"""How a service is run."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..core.errors import GroundingError
from .limits import Limits

__all__ = ["DEFAULT_PORT", "ServiceSettings", "is_loopback"]

DEFAULT_PORT = 8770
_MIN_TOKEN = 16


@dataclass(frozen=True)
class ServiceSettings:
    """How a service is run, checked.

    Parameters
    ----------
    host : str
        Address to listen on. Any but this machine's own needs a token.
    port : int
        Port to listen on.
    token : str, optional
        What every client must know.
    writable : bool
        Whether clients may add and remove images.
    public_url : str, optional
        Where a reverse proxy offers the service, such as ``https://photos.example.org``.
    watch : Path, optional
        A folder whose new photographs are added to the first index.
    limits : Limits
        What requests may ask for.

    Raises
    ------
    GroundingError
        If the service would be open to others without a token, or a value is impossible.

    Examples
    --------
    >>> ServiceSettings(host="0.0.0.0")
    Traceback (most recent call last):
        ...
    retrieval_grounding.core.errors.GroundingError: at 0.0.0.0, others can reach the service, so \
it needs a token of at least 16 characters: --token, or RETRIEVAL_GROUNDING_TOKEN
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str | None = field(default=None, repr=False)
    writable: bool = False
    public_url: str | None = None
    watch: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.token is not None and (
            len(self.token) < _MIN_TOKEN or not self.token.isascii() or not self.token.isprintable()
        ):
            raise GroundingError(
                f"a token has at least {_MIN_TOKEN} printable ASCII characters; "
                "'openssl rand -hex 16' makes one"
            )
        if self.watch is not None and not self.watch.is_dir():
            raise GroundingError(f"there is no folder {self.watch} to watch")
        reachable = None if is_loopback(self.host) else self.host
        if self.token is None and (reachable or self.public_url):
            raise GroundingError(
                f"at {reachable or self.public_url}, others can reach the service, so it needs a "
                f"token of at least {_MIN_TOKEN} characters: --token, or RETRIEVAL_GROUNDING_TOKEN"
            )
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
                raise GroundingError(
                    f"a public URL is like https://photos.example.org, not {self.public_url!r}"
                )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach what listens on `host`.

    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
