"""What all pages share: the search box, the collections to choose from, links."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..served import ServedIndex
from ..state import ServiceState
from .address import Address

__all__ = ["Link", "Seen", "Shell", "make_shell"]


@dataclass(frozen=True)
class Link:
    """A link, or a text if it leads nowhere."""

    text: str
    url: str = ""
    current: bool = False
    more: str = ""


@dataclass(frozen=True)
class Seen:
    """The picture in the search box."""

    source: str
    without: str


@dataclass(frozen=True)
class Shell:
    """What every template needs; see ``base.html``."""

    address: Address
    index: str
    indexes: list[Link]
    seen: Seen | None
    longest: int
    here: str = ""
    bare: bool = False
    site: str = "retrieval grounding"
    action: str = "/"
    look_action: str = "/look"

    @property
    def text(self) -> str:
        """What is in the search box."""
        return self.address.words

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Parameters that stay when somebody types something new; filters go."""
        new = replace(self.address, words="", page=1, clauses=self.address.likes)
        return new.pairs()

    @property
    def picture_fields(self) -> list[tuple[str, str]]:
        """What stays when somebody chooses a picture."""
        return Address(index=self.address.index, percent=self.address.percent).pairs()

    @property
    def home(self) -> str:
        """The first page."""
        return Address(index=self.address.index).url("/")

    @property
    def compare(self) -> str:
        """The page that compares two phrases."""
        return self.address.url("/compare", page=1)

    @property
    def status(self) -> str:
        """The page about the collections."""
        return Address(index=self.address.index).url("/status")

    @property
    def help(self) -> str:
        """The page with the query language."""
        return Address(index=self.address.index).url("/help")

    @property
    def picture_page(self) -> str:
        """The page on which a picture is chosen without a script."""
        return self.address.url("/look", page=1)

    def example_url(self, words: str) -> str:
        """Return the URL of a query."""
        return Address(index=self.address.index, words=words).url("/")


def make_shell(
    service: ServiceState, served: ServedIndex, address: Address, here: str = "", bare: bool = False
) -> Shell:
    """Return what all pages share, for one of them."""
    indexes = [
        Link(name, replace(address, index=name, page=1).url("/"), name == served.name)
        for name in service.indexes
    ]
    return Shell(
        address=address,
        index=served.name,
        indexes=indexes,
        seen=_seen(served, address),
        longest=service.settings.limits.phrase_characters,
        here=here,
        bare=bare,
    )


def _seen(served: ServedIndex, address: Address) -> Seen | None:
    if not address.likes:
        return None
    name, *rest = address.likes[-1].partition(":")[2].split("+")[0].split(":")
    is_region = len(rest) == 1 and rest[0].isdigit()
    source = f"/uploads/{name}"
    if is_region:
        source = f"/indexes/{served.name}/crops/{name}/{rest[0]}"
    return Seen(f"/api/v1{source}", address.without(address.likes[-1]).url("/"))
