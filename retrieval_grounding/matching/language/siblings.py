"""Words that exclude each other: what may take the place of a word to make a phrase false."""

from __future__ import annotations

__all__ = ["HAIR_COLORS", "MASS_NOUNS", "OPPOSITES", "SIBLINGS", "SIMILAR_COLORS"]


_NOUN_GROUPS = (
    # Slashes divide words of one meaning, of which only the first is offered to others.
    "baby/infant/toddler man woman",
    "child/kid man woman",
    "adult child",
    "teenager toddler",
    "mother/mom father/dad",
    "son daughter",
    "brother sister",
    "bride groom",
    "king queen",
    "waiter waitress",
    "grandmother/grandma grandfather/grandpa",
    "husband wife",
    "policeman/policewoman/cop fireman/firefighter soldier waiter",
    "chef/cook waiter doctor",
    "catcher batter/hitter umpire/ump/referee pitcher",
    "skier snowboarder surfer skateboarder/skater cyclist/biker/bicyclist",
    "guitarist drummer singer dancer pianist",
    "dog/puppy/doggy/pup cat/kitten/kitty horse/pony cow/bull/calf sheep/lamb elephant bear zebra "
    "giraffe goat pig",
    "bird/pigeon/seagull/parrot dog cat squirrel",
    "duck/goose/swan turtle fish",
    "person dog horse",
    "car/sedan bus truck train boat bicycle motorcycle airplane/plane",
    "bike car bus boat",
    "van motorcycle bicycle boat",
    "taxi/cab bus truck",
    "helicopter boat train",
    "chair couch/sofa bed table bench",
    "desk bed couch",
    "stool couch bed",
    "toilet sink bathtub",
    "bowl plate bottle cup/mug spoon fork knife",
    "vase bowl book lamp",
    "pot plate bottle",
    "pizza sandwich donut/doughnut cake salad",
    "banana apple carrot broccoli strawberry",
    "orange banana apple carrot",
    "hot_dog pizza cake",
    "burger/hamburger pizza cake",
    "laptop television/tv phone/cellphone keyboard camera",
    "computer phone camera book",
    "oven/stove refrigerator/fridge sink microwave",
    "clock mirror lamp book",
    "shirt/t-shirt/tee/blouse/sweatshirt/tshirt dress jacket/coat/hoodie",
    "sweater/vest dress coat",
    "hat/cap helmet scarf",
    "pants/jeans/trousers shorts",
    "skirt pants shorts",
    "shoe/sneaker boot sandal",
    "tie scarf belt",
    "glasses/sunglasses gloves earrings",
    "suit/tuxedo dress robe",
    "uniform/jersey dress coat",
    "beard/mustache ponytail",
    "apron coat dress",
    "surfboard skateboard snowboard bicycle",
    "skis skates",
    "ball frisbee kite balloon",
    "racket/racquet bat stick",
    "bat racket umbrella",
    "glove bat",
    "backpack handbag/purse suitcase umbrella",
    "bag/luggage umbrella box",
    "box basket bag",
    "guitar violin piano drum trumpet",
    "microphone guitar camera",
    "grass snow sand water",
    "street/road/sidewalk beach field river",
    "beach street forest",
    "field street beach",
    "lake/pond/pool/ocean street field",
    "mountain/hill building river",
    "building/house tree bridge tower",
    "tree/bush building pole",
    "fence/railing tree wall bench",
    "window door mirror",
    "wall tree window",
    "door window",
    "sign tree statue",
    "pole tree",
    "rock/boulder bench bush",
    "flower/plant candle book",
    "pillow blanket towel",
    "rug bed",
    "book cup phone",
    "umbrella balloon suitcase",
    "stick ball rope",
    "rope stick chain",
    "fire_hydrant parking_meter traffic_light stop_sign",
    "teddy_bear doll ball",
)
# Who calls a young man a boy is not wrong, so only the other gender replaces these.
SIBLINGS: dict[str, tuple[str, ...]] = {
    word: tuple(others.split())
    for words, others in (
        ("man guy gentleman dude male fella", "woman girl"), ("boy", "girl woman"),
        ("woman lady female gal", "man boy"), ("girl", "boy man"),
    )
    for word in words.split()
}  # fmt: skip
"""For nouns in the singular, others that the same thing cannot be."""


def _meanings(line: str) -> list[list[str]]:
    """Return the words of each meaning; "_" stands for a space."""
    return [words.replace("_", " ").split("/") for words in line.split()]


for _line in _NOUN_GROUPS:
    for _words in (_all := _meanings(_line)):
        for _word in _words:  # a noun has the siblings of the first line that names it
            SIBLINGS.setdefault(_word, tuple(o[0] for o in _all if o is not _words))

MASS_NOUNS = frozenset("grass snow sand water luggage broccoli hair".split())
"""Nouns without "a"."""

_OPPOSITES = {
    "size": "big/large/huge/giant small/little/tiny;tall short;long short;wide narrow;thick thin;"
    "fat thin;chubby thin",
    "age": "young old/elderly;older younger;new old;teenage elderly;middle-aged young",
    "material": "wooden metal/steel/iron plastic leather stone ceramic glass;wood metal plastic "
    "leather stone ceramic;fabric/cotton/cloth/wool leather metal plastic;paper metal wooden;"
    "brick wooden metal;wicker metal plastic;concrete wooden grassy;rubber wooden glass",
    "pattern": "striped/stripped plaid floral dotted plain;checkered/checked striped floral plain;"
    "spotted plain striped;patterned plain;solid striped plaid floral;camouflage striped plaid",
    "shape": "round/circular square triangular;rectangular/oval round;straight curly;wavy straight",
    "state": "open/opened closed;empty full;wet dry;clean dirty;bald long-haired;bearded "
    "clean-shaven;barefoot booted;shirtless fully_dressed;blurry sharp;whole sliced;lit unlit;"
    "smiling frowning;long-haired short-haired;long-sleeved sleeveless;dark light;dark-haired "
    "blond;hot cold;indoor outdoor;male female",
    "action": "standing sitting lying;sitting/seated standing lying;lying/laying standing sitting;"
    "walking sitting lying;running/jogging sitting standing;jumping sitting lying;kneeling "
    "standing;sleeping running standing;eating running sleeping;swimming walking sitting;"
    "crouching/squatting standing jumping;riding pushing;pushing pulling;throwing catching;"
    "smiling crying",
    "relation": "left right;above/over below/under/beneath/underneath;behind in_front_of;on under;"
    "in outside;inside outside;into out_of;toward/towards away_from;with without;"
    "wearing not_wearing",
    "place": "left right;leftmost rightmost;left-most right-most;lefthand righthand;"
    "left-hand right-hand;top bottom;upper lower;topmost bottommost;uppermost lowest;front back;"
    "rear front;foreground background;closest/nearest farthest/furthest;"
    "closer/nearer farther/further;frontmost backmost;middle left right;center left right;"
    "inner outer;first last",
    "ordinal": "first second third;last first;third fourth first second;fourth fifth third second;"
    "fifth fourth third;1st 2nd 3rd;3rd 4th 1st;4th 5th 3rd",
    "comparative": "bigger/larger smaller;biggest/largest smallest;taller shorter;tallest shortest;"
    "longer shorter;longest shortest;older younger;oldest youngest;darker lighter;darkest "
    "lightest;thicker thinner;fatter thinner;higher lower;highest lowest;brightest darkest;"
    "widest narrowest;most least;more less;fullest emptiest;newer older",
}
OPPOSITES: dict[str, dict[str, tuple[str, ...]]] = {}
"""For each kind of word, what may take its place."""
for _kind, _lines in _OPPOSITES.items():
    _of_kind = OPPOSITES.setdefault(_kind, {})
    for _line in _lines.split(";"):
        for _words in (_all := _meanings(_line)):
            for _word in _words:
                _of_kind.setdefault(_word, tuple(o[0] for o in _all if o is not _words))

SIMILAR_COLORS: dict[str, str] = {
    "black": "brown gray", "white": "gray", "gray": "white black", "brown": "orange red black",
    "red": "pink orange brown", "orange": "yellow brown red", "yellow": "orange", "green": "",
    "blue": "purple", "purple": "pink blue", "pink": "red purple",
}  # fmt: skip
"""Colors that people may call by each other's names."""
HAIR_COLORS = ("black", "brown", "blond", "gray", "red")
