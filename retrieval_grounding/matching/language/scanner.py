"""Reading a phrase word by word: which role each word has."""

from __future__ import annotations

from collections.abc import Sequence

from . import kinds as k
from . import lexicon as lex
from .chunks import Chunk, kinds_of, read_chunk
from .parts import Role
from .words import PAIRED, is_plural, singular

__all__ = ["Scanner"]


_INTRANSITIVE = frozenset(
    "standing sitting walking running smiling laying lying kneeling crouching sleeping jumping "
    "flying laughing squatting leaning grazing swimming bending going moving resting hanging "
    "parking staring kissing crying skating surfing skiing snowboarding dancing posing stooping "
    "facing looking pointing waiting falling seating crouched reaching talking turning".split()
)
_DIRECTED = frozenset(
    "facing looking pointing turned turning heading moving going leaning staring walking "
    "running flying swinging angled bending".split()
)
_ADVERBIAL = frozenset(("behind", "above", "below", "in front of", "near", "between", "opposite"))
_WORN = frozenset(("wearing", "dressed", "having", "featuring", "sporting", "clad", "containing"))
_PRONOUNS = frozenset("him her them".split())
_RELATIVE = frozenset(("that", "which", "where", "who", "whose"))
_SUBJECTS = frozenset("you i she shes she's he hes he's we they theyre they're".split())
_IS = frozenset(("is", "are", "was", "were"))
_PREDICATE = frozenset((k.VERB, k.PARTICIPLE, k.AUXILIARY))
_LONGEST = max(map(len, lex.RELATIONS))
_GROUPS = frozenset("group crowd herd flock bunch gang cluster swarm team crew".split())
_LOOKS = frozenset(
    "pattern logo design stripes stripe dots print cast color colour colors shape style".split()
)


class Scanner:
    """Reads a phrase from its first word to its last.

    Parameters
    ----------
    words : sequence of str
        From :func:`.words.words_of`.

    Attributes
    ----------
    roles : list of Role
        One per word.
    noun : list of int
        Places of the words of the target's noun; empty if it has none.
    relation : str
        How the target relates to the landmark.
    landmark : list of int
        Places of the words of the landmark.
    negated : list of list of int
        Places of the words that are denied, one list for each negation.
    count : int
        How many things are meant; 0 for a group of unknown size.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._kinds = kinds_of(words)
        self.roles = [Role.OTHER] * len(words)
        self.noun: list[int] = []
        self.relation = ""
        self.landmark: list[int] = []
        self.negated: list[list[int]] = []
        self.count = 1
        self._quantity: int | None = None
        self._last = Role.OTHER  # role of the noun phrase before
        at = 0
        while at < len(words):
            at = max(self._step(at), at + 1)

    # Every method below reads from a place, and returns the place after what it has read.

    def _step(self, at: int) -> int:
        kind = self._kinds[at]
        if kind == k.NEGATION:
            return self._negation(at)
        if kind == k.PREPOSITION:
            return self._preposition(at)
        if kind in (k.PLACE, k.ORDINAL, k.COMPARATIVE) and (end := self._place(at, at)):
            return end
        if kind == k.AND:
            return self._conjunction(at)
        if kind == k.ADVERB:
            if at and self.roles[at - 1] in (Role.ATTRIBUTE, Role.LANDMARK):
                self.roles[at] = self.roles[at - 1]
            return at + 1
        if self._words[at] in _SUBJECTS and self.noun:
            return self._predicate(at + 1)
        if kind in (k.AUXILIARY, k.BREAK) and self._words[at] not in _RELATIVE:
            return at + 1
        if self.noun and self._words[at] in _RELATIVE and (end := self._clause(at + 1)):
            return end
        if self.noun and kind in (k.DETERMINER, k.QUANTITY) and (end := self._clause(at, _IS)):
            return end
        chunk = self._chunk(at, telegraphic=not self.noun)
        if chunk.content:
            return self._head(chunk) if not self.noun else self._more(chunk)
        if chunk.quantities and self._words[chunk.end : chunk.end + 1] == ["of"]:
            self._quantity = quantity(self._words[chunk.quantities[0]])
            return chunk.end + 1
        if chunk.end > at:
            self._mark_chunk(chunk, Role.OTHER)
            return chunk.end
        if kind in (k.VERB, k.PARTICIPLE):
            return self._verb(at)
        return at + 1

    def _chunk(self, at: int, telegraphic: bool = False) -> Chunk:
        return read_chunk(self._words, self._kinds, at, telegraphic)

    def _mark(self, start: int, end: int, role: Role) -> None:
        self.roles[start:end] = [role] * (end - start)

    def _mark_chunk(self, chunk: Chunk, role: Role) -> None:
        """Give the words of a noun phrase a role, except places and the first articles."""
        for at in range(chunk.start, chunk.end):
            if at in chunk.places:
                self.roles[at] = Role.PLACE
            elif role is not Role.OTHER and at >= chunk.first:
                self.roles[at] = role

    # Target

    def _head(self, chunk: Chunk) -> int:
        """Read the noun phrase of the target."""
        self._mark_chunk(chunk, Role.ATTRIBUTE)
        for at in chunk.quantities:
            self.roles[at] = Role.COUNT
            self._quantity = quantity(self._words[at])
        if chunk.owner:
            self._mark(chunk.owner[0], chunk.owner[-1] + 1, Role.LANDMARK)
            self.landmark, self.relation = chunk.owner, "of"
        self._name(chunk)
        self._last = Role.NOUN
        return chunk.end

    def _name(self, chunk: Chunk) -> None:
        """Take the noun of a noun phrase for that of the target, and count."""
        self.noun = chunk.noun
        for at in chunk.noun:
            self.roles[at] = Role.NOUN
        if self._quantity is not None:
            self.count = self._quantity
        elif chunk.noun:
            word = self._words[chunk.noun[-1]]
            alone = {"couple": 2, "pair": 2, "duo": 2, "trio": 3}.get(word, 0)
            many = is_plural(word) or word in _GROUPS
            self.count = alone if many or alone else 1

    def _more(self, chunk: Chunk) -> int:
        """Read a noun phrase after the target: said of it without a preposition."""
        owner = Role.ATTRIBUTE
        if self._last is Role.LANDMARK and self._kinds[chunk.start - 1] == k.AND:
            owner = Role.LANDMARK
        self._mark_chunk(chunk, owner)
        return chunk.end

    def _clause(self, at: int, verbs: frozenset[str] = frozenset()) -> int:
        """Read a clause about the target with a subject of its own ("that the man sits on")."""
        chunk = self._chunk(at)
        end = chunk.end
        if not chunk.noun or (verbs and not verbs.intersection(self._words[end : end + 1])):
            return 0
        while end < len(self._words) and self._kinds[end] != k.BREAK:
            end += 1
        if not any(kind in _PREDICATE for kind in self._kinds[chunk.end : end]):
            return 0
        self._mark(chunk.first, end, Role.LANDMARK)
        if not self.landmark:
            self.relation, self.landmark = "of", list(range(chunk.first, chunk.end))
        return end

    def _predicate(self, at: int) -> int:
        """Read what somebody does to the target ("the chair she is sitting on")."""
        while at < len(self._words) and self._kinds[at] in (*_PREDICATE, k.NEGATION, k.ADVERB):
            at += 1
        at = max(at, self._chunk(at).end)
        return at + (self._kinds[at:] == [k.PREPOSITION])

    def _conjunction(self, at: int) -> int:
        """Read "and": a second target, a further attribute, or a second landmark."""
        chunk = self._chunk(at + 1)
        if not chunk.content or not self.noun:
            return at + 1
        if self._last is Role.NOUN and chunk.noun:
            if not (k.is_clothing(self._words[chunk.noun[-1]]) or self._is_clothing()):
                both = self.count == 1 and not is_plural(self._words[chunk.noun[-1]])
                self.count = 2 if both else 0
            self._mark(at, chunk.first, Role.ATTRIBUTE)
            self._mark_chunk(chunk, Role.ATTRIBUTE)
            for place in chunk.noun:
                self.roles[place] = Role.NOUN
        elif self._last is Role.LANDMARK:
            self._mark(at, chunk.end, Role.LANDMARK)
            if self.relation == "between" and self.landmark:
                self.landmark = list(range(self.landmark[0], chunk.end))
        else:
            self._mark(at, chunk.first, Role.ATTRIBUTE)
            self._mark_chunk(chunk, Role.ATTRIBUTE)
        return chunk.end

    def _is_clothing(self) -> bool:
        return bool(self.noun) and k.is_clothing(self._words[self.noun[-1]])

    # Attributes

    def _owner(self) -> Role:
        """Return what a further attribute is said of: the target, or the landmark."""
        if self._last is not Role.LANDMARK:
            return Role.ATTRIBUTE
        target = self._words[self.noun[-1]] if self.noun else "one"
        near = self._words[self.landmark[-1]] if self.landmark else ""
        if k.is_person(near) or near in _PRONOUNS:
            return Role.LANDMARK
        unnamed = not self.noun or k.is_animate(target) or k.is_clothing(target)
        return Role.ATTRIBUTE if unnamed else Role.LANDMARK

    def _attribute(self, at: int, start: int) -> int:
        """Read what follows "with" or "wearing", which begins at `start`."""
        if at < len(self._words) and self._kinds[at] == k.NEGATION:
            self._mark(start, at, Role.NEGATED)
            return self._negation(at)
        owner = self._owner()
        chunk = self._chunk(at)
        if not chunk.content:
            self._mark(start, at, owner if chunk.end > at else Role.OTHER)
            return at
        end = chunk.end
        self._mark(start, end, owner)
        while end + 1 < len(self._words) and self._kinds[end] in (k.AND, k.BREAK):
            more = end + 1 + (self._kinds[end + 1] == k.AND)
            chunk = self._chunk(more)
            if not chunk.noun:
                break
            self._mark(end, chunk.end, owner)
            end = chunk.end
        if owner is Role.LANDMARK and self.landmark and self.landmark[-1] == start - 1:
            self.landmark = list(range(self.landmark[0], end))
        elif owner is Role.ATTRIBUTE:
            self._last = Role.ATTRIBUTE
        return end

    def _verb(self, at: int) -> int:
        """Read a verb with what belongs to it."""
        word = lex.VERBS.get(self._words[at], self._words[at])
        if word in _WORN:
            after = at + 1
            if after < len(self._words) and self._words[after] in ("in", "as", "all", "like", "a"):
                after += self._words[after] != "a"
            return self._attribute(after, at)
        if word == "made" and self._words[at + 1 : at + 2] in (["of"], ["from"], ["with"]):
            return self._attribute(at + 2, at)
        owner, end = self._owner(), at + 1
        self.roles[at] = owner
        if word in _DIRECTED:
            return self._direction(end, owner)
        if end == len(self._words) or self._kinds[at] == k.PARTICIPLE or word in _INTRANSITIVE:
            return end
        chunk = self._chunk(end)
        if not chunk.noun:
            return end
        if owner is Role.ATTRIBUTE and not self.landmark:
            return self._relate(at, end, word)
        self._mark_chunk(chunk, owner)
        return chunk.end

    def _direction(self, at: int, owner: Role) -> int:
        """Read "left", "away" or "at the camera" after "looking", which is no place."""
        end = at
        while end < len(self._words):
            kind, word = self._kinds[end], self._words[end]
            if kind == k.ADVERB or word in lex.SIDES or word in lex.VIEWERS:
                end += 1
                break
            if word in ("to", "at", "the", "towards", "toward", "your", "our"):
                end += 1
                continue
            return at
        if end < len(self._words) and self._words[end] == "of":  # "standing left of"
            return at
        self._mark(at, end, owner)
        return end

    # Relations and places

    def _preposition(self, at: int) -> int:
        name, after = self._relation_at(at)
        if name == "with":
            return self._attribute(after, at)
        if after - at == 1 and (end := self._place(after, at)):
            return end
        chunk = self._chunk(after)
        word = self._words[chunk.noun[-1]] if chunk.noun else ""
        if word in lex.IMAGE and name in ("in", "of", "on", "from"):
            self._mark_chunk(chunk, Role.OTHER)
            return chunk.end
        if word in lex.VIEWERS or self._words[after : after + 1] in (["us"], ["you"], ["me"]):
            self._mark(at, max(chunk.end, after + 1), Role.PLACE)
            return max(chunk.end, after + 1)
        if name == "of":
            return self._of(at, chunk)
        if at and self._kinds[at - 1] == k.PARTICIPLE and name == "in" and chunk.content:
            return self._attribute(after, at)  # "covered in snow"
        if name == "in" and self._is_worn(chunk):
            return self._attribute(after, at)
        return self._relate(at, after, name)

    def _relation_at(self, at: int) -> tuple[str, int]:
        """Return the longest preposition at a place, in its usual form, and where it ends."""
        for end in range(min(at + _LONGEST, len(self._words)), at, -1):
            if name := lex.RELATIONS.get(tuple(self._words[at:end])):
                return name, end
        return self._words[at], at + 1

    def _is_worn(self, chunk: Chunk) -> bool:
        """Return whether "in" with this noun phrase says what somebody wears."""
        if not chunk.noun:
            return bool(chunk.content)
        word = self._words[chunk.noun[-1]]
        if k.is_clothing(word) or word in _LOOKS:
            return True
        someone = not self.noun or k.is_person(self._words[self.noun[-1]])
        known = singular(word) in lex.SCENES or k.is_animate(word)
        vague = self._kinds[chunk.start] == k.DETERMINER and not any(
            self._words[at] in lex.COLOR_WORDS for at in range(chunk.start, chunk.end)
        )
        return someone and not known and not vague

    def _relate(self, at: int, after: int, name: str) -> int:
        """Read the landmark of a relation whose words are from `at` to `after`."""
        chunk = self._chunk(after)
        noun = chunk.content
        if not noun and after < len(self._words) and self._words[after] in _PRONOUNS:
            noun, chunk = True, Chunk.single(after)
        if not noun:
            adverbial = name in _ADVERBIAL or after == len(self._words)
            self._mark(at, after, Role.PLACE if adverbial else Role.OTHER)
            return after
        if self._last is Role.ATTRIBUTE and chunk.noun and self._words[chunk.noun[-1]] in lex.BODY:
            self._mark(at, chunk.end, Role.ATTRIBUTE)  # "with a bell around its neck"
            return chunk.end
        self._mark(at, after, Role.RELATION)
        self._mark(after, chunk.first, Role.OTHER)
        self._mark(chunk.first, chunk.end, Role.LANDMARK)
        if not self.landmark:
            self.relation = name
            self.landmark = list(range(chunk.first, chunk.end))
        self._last = Role.LANDMARK
        return chunk.end

    def _of(self, at: int, chunk: Chunk) -> int:
        """Read "of": a quantity, a part or content of the target, or its owner."""
        if not chunk.noun:
            return at + 1
        if not self.noun:
            return self._head(chunk)
        if self._words[at - 1] == "full":
            return self._attribute(at + 1, at)
        word = singular(self._words[self.noun[-1]])
        if self._last is not Role.NOUN:
            if self._last is Role.LANDMARK and self.landmark and self.landmark[-1] == at - 1:
                self.landmark = list(range(self.landmark[0], chunk.end))
                self._mark(at, chunk.end, Role.LANDMARK)
            else:
                self._mark(at, chunk.end, Role.ATTRIBUTE)
            return chunk.end
        if word in lex.COLLECTIVES or word in ("one", "ones"):
            self._mark(self.noun[0], at + 1, Role.COUNT)
            paired = self._words[chunk.noun[-1]] in PAIRED
            if self._quantity is None:
                self._quantity = 1 if word == "one" or paired else quantity(word)
            return self._head(chunk)
        if word in lex.MODIFIERS:
            self._mark(self.noun[0], chunk.end, Role.ATTRIBUTE)
            self._name(chunk)
            return chunk.end
        if word in lex.CONTAINERS:
            self._mark(at, chunk.end, Role.ATTRIBUTE)
            return chunk.end
        return self._relate(at, at + 1, "of")

    def _place(self, at: int, start: int) -> int:
        """Read places, whose preposition may begin at `start`; return 0 if there are none."""
        end, found = at, False
        while end < len(self._words):
            kind, word = self._kinds[end], self._words[end]
            if kind in (k.PLACE, k.ORDINAL, k.COMPARATIVE):
                found = True
            elif not (
                (kind == k.DETERMINER and not found)
                or (found and word in lex.PLACE_NOUNS)
                or (not found and word in ("very", "side", "extreme", "side's"))
                or (found and word == "and" and self._kinds[end + 1 : end + 2] == [k.PLACE])
            ):
                break
            end += 1
        if not found:
            if end == at or self._words[end - 1] != "side":
                return 0
            if end < len(self._words) and self._kinds[end] in k.CONTENT:
                return 0  # "in the side door"
        if self._words[end : end + 1] == ["of"]:
            return self._place_of(at, end, start)
        last = self._words[end - 1]
        if end < len(self._words) and last in ("close", "closest", "closer", "near", "nearest"):
            if self._words[end] == "to" or (self.noun and self._chunk(end).noun):
                return self._near(at, end, start)
        if end < len(self._words) and self._goes_on(at, end, start):
            return 0
        if start == at and not self.noun and self._chunk(at, telegraphic=True).noun:
            return 0  # "left guy": part of the noun phrase
        self._mark(start, end, Role.PLACE)
        return end

    def _near(self, at: int, end: int, start: int) -> int:
        """Read "closest to" with a landmark, or with the camera."""
        relation = self._words[end - 1] in ("near", "close") and self._chunk(end).noun
        self._mark(start, end, Role.RELATION if relation else Role.PLACE)
        if self._words[end] == "to":
            if place := self._place(end + 1, end):
                return place
            return self._preposition_near(end + 1, end)
        return self._preposition_near(end, end)

    def _preposition_near(self, after: int, at: int) -> int:
        chunk = self._chunk(after)
        word = self._words[chunk.noun[-1]] if chunk.noun else "".join(self._words[after : after + 1])
        if word in lex.VIEWERS or word in lex.IMAGE:
            end = max(chunk.end, after + 1)
            self._mark(at, end, Role.PLACE)
            return end
        return self._relate(at, after, "near")

    def _goes_on(self, at: int, end: int, start: int) -> bool:
        """Return whether places before `end` belong to the noun that follows ("back seat")."""
        if self._kinds[end] not in k.CONTENT:
            return False
        if start == at:
            return not self.noun
        chunk = self._chunk(end)
        if not chunk.noun:
            return False
        word = self._words[chunk.noun[-1]]
        if word in lex.IMAGE:
            return False
        if self._kinds[end] != k.NOUN and self._kinds[at] != k.DETERMINER:
            return False
        return bool(self.noun) and not k.is_person(word) and not k.is_clothing(word)

    def _place_of(self, at: int, end: int, start: int) -> int:
        """Read "left of", "on top of" and the like, whose "of" is at `end`."""
        chunk = self._chunk(end + 1)
        word = self._words[chunk.noun[-1]] if chunk.noun else ""
        if not chunk.content or word in lex.IMAGE or word in lex.COLLECTIVES or (
            not chunk.noun and chunk.quantities
        ):
            end = max(chunk.end, end + 1)
            self._mark(start, end, Role.PLACE)
            return end
        place = next((w for w in self._words[at:end] if w in SIDE_NAMES), "")
        preposition = self._relation_at(start)[0] if start < at else ""
        side = lex.SIDE_RELATIONS.get(place, "")
        if not side or (place not in ("left", "right") and preposition in ("in", "at", "from")):
            side = preposition or ("of" if not self.noun else "on")
        if not self.noun and start == at and place not in ("left", "right"):
            # "top of cake": a part, named by the whole
            self._mark(at, chunk.end, Role.ATTRIBUTE)
            self._name(chunk)
            self._last = Role.NOUN
            return chunk.end
        return self._relate(start, end + 1, side)

    # Negation

    def _negation(self, at: int) -> int:
        """Read what is denied."""
        self.roles[at] = Role.NEGATED
        if self._words[at] in lex.NOBODY:
            self.negated.append([at])
            return at + 1
        end, verbs = at + 1, []
        while end < len(self._words) and (
            self._kinds[end] in (k.AUXILIARY, k.DETERMINER, k.PREPOSITION)
            or (self._kinds[end] in (k.VERB, k.PARTICIPLE) and not self._chunk(end).noun)
        ):
            if self._kinds[end] in (k.VERB, k.PARTICIPLE):
                verbs.append(end)
            end += 1
        chunk = self._chunk(end, telegraphic=True)
        denied = [place for place in range(chunk.first, chunk.end)]
        person = next((p for p in denied if k.is_person(self._words[p])), None)
        if not self.noun and person is not None and person > end:  # "no shirt guy"
            denied, stop = list(range(chunk.first, person)), person
        else:
            stop = chunk.end
        if not denied and end < len(self._words) and self._words[end] in ("one", "ones"):
            denied, stop = [end], end + 1
        denied = denied or verbs
        if not denied:
            return at + 1
        stop = max(stop, denied[-1] + 1)
        self._mark(at, stop, Role.NEGATED)
        self.negated.append(denied)
        return stop


SIDE_NAMES = frozenset((*lex.SIDE_RELATIONS, "bottom", "middle", "center", "corner", "edge", "end"))


def quantity(word: str) -> int:
    """Return the number that a word names; 0 for "several" and "group"."""
    return {"pair": 2, "couple": 2, "duo": 2, "trio": 3}.get(word) or lex.NUMBERS.get(word, 0)
