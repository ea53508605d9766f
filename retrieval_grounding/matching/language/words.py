"""English words: tokens of a phrase, singular and plural, and articles."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["PAIRED", "fix_articles", "is_plural", "plural", "singular", "words_of"]


_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[,;.:/]")
_BREAKS = ",;.:/"
_DETACHED = re.compile(r" ' ?s\b")
_QUOTES = str.maketrans("’‘`´_", "'''' ")

_IRREGULAR = {
    "man": "men", "woman": "women", "person": "people", "child": "children", "foot": "feet",
    "tooth": "teeth", "mouse": "mice", "goose": "geese", "knife": "knives", "life": "lives",
    "wife": "wives", "leaf": "leaves", "loaf": "loaves", "shelf": "shelves", "half": "halves",
    "calf": "calves", "scarf": "scarves", "wolf": "wolves", "hoof": "hooves", "sheep": "sheep",
    "fish": "fish", "deer": "deer", "broccoli": "broccoli",
    "aircraft": "aircraft", "bison": "bison", "moose": "moose",
}  # fmt: skip
_SINGULAR = {many: one for one, many in _IRREGULAR.items()}
_SINGULAR |= {"persons": "person", "shoes": "shoe", "horseshoes": "horseshoe", "canoes": "canoe",
              "cookies": "cookie", "movies": "movie", "hoodies": "hoodie", "veggies": "veggie",
              "ties": "tie", "pies": "pie", "hippies": "hippie",
              "selfies": "selfie", "taxis": "taxi", "tvs": "tv",
              "mustaches": "mustache", "moustaches": "moustache",
              "zombies": "zombie", "buses": "bus", "oxen": "ox"}  # fmt: skip
_NOT_PLURAL = frozenset(
    "bus glass grass dress gas canvas cactus hippopotamus chess boss class mess moss brass lens "
    "bass compass mattress actress waitress hostess goddess princess tennis iris christmas news "
    "gymnastics its this his hers ours yes plus us lacrosse cross across series species "
    "business harness headdress fortress fitness wilderness darkness address process campus virus "
    "octopus walrus circus always besides perhaps asparagus hummus citrus couscous mass pass "
    "specimen abdomen ramen omen regimen overpass bypass underpass sheep fish deer aircraft bison "
    "moose".split()
)
PAIRED = frozenset(
    "pants trousers jeans shorts glasses sunglasses goggles scissors tights leggings pajamas "
    "pyjamas overalls trunks pliers tongs headphones earphones binoculars spectacles slacks "
    "sweatpants khakis suspenders clothes clothing shades capris stairs skis briefs boxers "
    "tweezers panties underpants undies".split()
)
"""Plurals that name one thing."""

_NOT_MEN = frozenset(("human", "german", "roman", "shaman", "talisman"))
_VOWEL_BY_SOUND = re.compile(r"(?:hour|honest|heir)")
_CONSONANT_BY_SOUND = re.compile(r"(?:uni(?!n)|use|usu|uk|eu|one|once|u-)")
_ARTICLE = re.compile(r"\b(an?) ([\w'-]+)", re.IGNORECASE)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, and its commas, stops and slashes as ``","``.

    Examples
    --------
    >>> words_of("Man’s hat, 2nd dog-walker")
    ["man's", 'hat', ',', '2nd', 'dog-walker']
    """
    text = text.translate(_QUOTES).lower()
    if " '" in text:
        text = _DETACHED.sub("'s", text)
    words = _TOKEN.findall(text)
    while words and words[-1] in _BREAKS:
        words.pop()
    return ["," if word in _BREAKS else word for word in words]


@lru_cache(maxsize=8192)
def singular(word: str) -> str:  # noqa: PLR0911 - one for each rule
    """Return the singular of a noun in lower case; other words come back unchanged.

    Examples
    --------
    >>> [singular(word) for word in ("women", "buses", "puppies", "bus", "pants", "boxes", "dogs")]
    ['woman', 'bus', 'puppy', 'bus', 'pants', 'box', 'dog']
    """
    if word in _SINGULAR:
        return _SINGULAR[word]
    if word.endswith("men") and word not in _NOT_PLURAL:
        return word[:-3] + "man"
    if word in _NOT_PLURAL or word in PAIRED or len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith(("ss", "us", "is", "'s")):
        return word
    if not word.replace("-", "").isalpha():
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zzes", "toes", "goes")):
        return word[:-2]
    return word[:-1]


def plural(word: str) -> str:
    """Return the plural of a singular noun in lower case.

    Examples
    --------
    >>> [plural(word) for word in ("woman", "bus", "puppy", "boy", "zebra", "fire hydrant")]
    ['women', 'buses', 'puppies', 'boys', 'zebras', 'fire hydrants']
    """
    before, _, word = word.rpartition(" ")
    if before:
        return f"{before} {plural(word)}"
    if word in PAIRED:
        return word
    for one, many in _IRREGULAR.items():
        if word == one or (one == "man" and word.endswith("man") and word not in _NOT_MEN):
            return word[: len(word) - len(one)] + many
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    if word.endswith(("s", "x", "z", "ch", "sh", "tomato", "potato")):
        return word + "es"
    return word + "s"


def is_plural(word: str) -> bool:
    """Return whether a noun names several things; "pants" and "scissors" do not.

    Examples
    --------
    >>> is_plural("zebras"), is_plural("bus"), is_plural("scissors"), is_plural("people")
    (True, False, False, True)
    """
    return singular(word) != word


def fix_articles(text: str) -> str:
    """Write "an" before vowels as they sound and "a" elsewhere; drop both before plurals.

    Examples
    --------
    >>> fix_articles("a orange cat, an uniform and a hour with a pants")
    'an orange cat, a uniform and an hour with pants'
    """
    return _ARTICLE.sub(_right_article, text)


def _right_article(match: re.Match[str]) -> str:
    article, word = match[1], match[2]
    lower = word.lower()
    if lower in PAIRED or lower == "one":
        return word
    vowel = _VOWEL_BY_SOUND.match(lower) or (
        lower[0] in "aeiou" and not _CONSONANT_BY_SOUND.match(lower)
    )
    return f"{article[0]}{'n' if vowel else ''} {word}"
