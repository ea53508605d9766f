"""Words by what they do in a phrase. A word in no list is taken for a noun."""

from __future__ import annotations

from ...core.colors import COLORS

__all__ = [
    "ADJECTIVES", "ADVERBS", "ANIMALS", "AUXILIARIES", "BODY", "CLOTHING", "CLOTHING_ENDINGS",
    "COLLECTIVES", "COLOR_WORDS", "COMPARATIVES", "COMPOUNDS", "CONTAINERS", "DETERMINERS",
    "IMAGE", "ING_NOUNS", "MODIFIERS", "NEGATIONS", "NOBODY", "NUMBERS", "ORDINALS", "PARTS",
    "PEOPLE", "PLACES", "PLACE_NOUNS", "POSSESSED", "POSSESSIVES", "QUANTIFIERS", "RELATIONS",
    "SCENES", "SIDES", "SIDE_RELATIONS", "VERBS", "VIEWERS",
]  # fmt: skip


def _set(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_SHADES = {
    "gray": "grey silver silvery chrome steel slate",
    "brown": "tan beige brunette wooden chocolate bronze copper khaki rust brownish chestnut "
    "tanned",
    "red": "maroon burgundy burgandy crimson scarlet redhead reddish ruby cherry",
    "orange": "ginger peach orangish orangey",
    "yellow": "gold golden blond blonde mustard yellowish blondish",
    "green": "olive lime greenish emerald mint",
    "blue": "navy teal turquoise cyan aqua indigo bluish denim azure",
    "purple": "violet lavender lilac plum purplish",
    "pink": "magenta fuchsia pinkish salmon",
    "white": "ivory cream whitish snowy",
    "black": "blackish ebony",
}
COLOR_WORDS: dict[str, int] = {name: number for number, name in enumerate(COLORS)} | {
    word: COLORS.index(name) for name, words in _SHADES.items() for word in words.split()
}
"""Columns of `COLORS` by the words for them, as the histogram of a region would count them."""
for _material in ("wooden", "chocolate", "steel", "denim", "khaki", "mint", "cherry", "lime"):
    del COLOR_WORDS[_material]  # materials and food first of all

DETERMINERS = _set(
    "a an the this that these those my your his her its our their another any each every "
    "other one's there here it he she they we i you him them someone's somebody's"
)
AUXILIARIES = _set(
    "is are was were be been being am it's he's she's that's there's who's who which whose "
    "also very really just only quite so too almost mostly partially partly slightly can "
    "could will would should do does did gets getting while as if then when where though but "
    "because than what whom whatever appears seems they're thats hes shes theyre whos please "
    "find show"
)
NEGATIONS = _set(
    "not no without never w/o isn't isnt doesn't doesnt don't dont aren't arent wasn't can't "
    "cant cannot hasn't hasnt didn't didnt nothing lacking minus"
)
NOBODY = _set("nobody no-one noone")

SIDES = _set(
    "left right leftmost rightmost left-most right-most lefthand righthand left-hand right-hand "
    " lft leftside rightside left-side right-side lefty"
)
PLACES = SIDES | _set(
    "top bottom upper lower middle center centre central mid front back rear corner far near "
    "close closest nearest farthest furthest closer nearer farther further topmost bottommost "
    "uppermost background foreground edge backmost frontmost forefront furtherest outer inner "
    "end distant outermost innermost bottom-most top-most center-left distance middlemost"
)
PLACE_NOUNS = _set("side corner edge end hand most row part half section area portion forward")
PARTS = _set("back front side top bottom end corner edge center middle")
POSSESSIVES = _set("his her its my your our their")
IMAGE = _set(
    "picture photo image pic photograph frame screen shot view pict foto scene photos pictures pix"
)
VIEWERS = _set("camera us you viewer me viewers cam observer photographer audience")
ORDINALS = {
    word: rank
    for rank, words in enumerate(
        "first 1st,second 2nd,third 3rd,fourth 4th,fifth 5th,sixth 6th,seventh 7th,eighth 8th,"
        "ninth 9th,tenth 10th".split(","),
        start=1,
    )
    for word in words.split()
} | {"last": -1}
COMPARATIVES = _set(
    "bigger biggest larger largest smaller smallest taller tallest shorter shortest older "
    "oldest younger youngest longer longest wider widest thinner thinnest fatter fattest "
    "darker darkest lighter lightest brighter brightest higher highest lowest newer newest "
    "fullest least most fewest more less prettier skinnier thicker thickest cleanest heavier "
    "heaviest tinier littlest whiter redder hairier balder emptier ripest messiest nicer"
)
NUMBERS = {
    word: number
    for number, words in enumerate(
        "one 1,two 2 both,three 3,four 4,five 5,six 6,seven 7,eight 8,nine 9,ten 10,eleven 11,"
        "twelve 12 dozen".split(","),
        start=1,
    )
    for word in words.split()
}
QUANTIFIERS = _set("several many some few all various multiple numerous lots countless assorted")
COLLECTIVES = _set(
    "group groups bunch crowd crowds herd flock row rows team stack pile pair pairs couple "
    "set line cluster collection array lot lots pack gang band variety number assortment "
    "series trio heap duo swarm bundle batch string"
)

ADJECTIVES = frozenset(COLOR_WORDS) | _set(
    "big large small little tiny huge tall short long wide narrow thin thick fat skinny heavy "
    "slim giant miniature mini gigantic massive enormous chubby petite medium medium-sized "
    "half-eaten young old elderly older-looking middle-aged new aged teenage newborn dark "
    "light bright pale dim clear transparent multicolored multi-colored colorful colourful "
    "coloured colored striped stripey stripy plaid checkered checked dotted spotted polka "
    "patterned flowered floral solid plain printed camouflage camo tie-dyed two-tone stripped "
    "speckled wooden metal metallic plastic leather glass stone wood fabric ceramic paper "
    "wool woolen cotton concrete rubber silk velvet denim wicker brick steel iron fur furry "
    "porcelain rattan crochet chocolate cardboard straw khaki knitted knit stainless "
    "styrofoam foam vinyl round square rectangular oval circular triangular curved flat "
    "straight curly wavy pointed bald shirtless naked nude bearded hooded barefoot blurry "
    "blurred fuzzy fluffy shaggy hairy shiny glossy dirty clean wet dry empty full open "
    "closed broken cracked rusty old-fashioned smooth rough soft hard grassy rocky sandy "
    "snowy muddy leafy icy wooded crowded busy sunny happy sad smiling angry cute pretty "
    "beautiful handsome lovely nice cool asian african american african-american indian "
    "chinese japanese caucasian european male female oriental hispanic hot cold warm raw "
    "cooked sliced whole half fresh ripe frosted glazed sugared toasted burnt long-haired "
    "short-haired long-sleeved short-sleeved sleeveless dark-haired red-haired blond-haired "
    "blonde-haired brown-haired black-haired dark-skinned light-skinned left-handed high low "
    "deep shallow loose tight same different similar single main only separate various wild "
    "stuffed toy fake real electric electronic digital modern antique vintage traditional "
    "casual formal athletic sporty professional public wedding outdoor indoor opposing "
    "visible hidden partial cropped complete obscured closest-looking faded fancy see-through "
    "sheer reflective perforated textured rippled hollow double triple upright sideways grown "
    "pregnant blind injured sleepy asleep awake alone fallen dead alive unseen seated upside-down "
    " lit unlit bare dusty foggy hazy cloudy dense rural urban native foreign brown-and-white "
    " black-and-white left-over messy neat ornate decorative huge-looking odd funny "
    "weird strange lone lonely tan-colored cream-colored opposite dressed made stacked parked "
    "tattooed tee polo lined checker"
)
ADVERBS = _set(
    "up down out away off back over around together alone forward forwards backwards sideways "
    "apart straight ahead upwards downwards outside inside outdoors indoors upside there "
    "backward home outward inward along downward upward overhead aside"
)
ING_NOUNS = _set(
    "building clothing railing ring string wing painting ceiling king crossing wedding sling "
    "thing awning stocking frosting icing earring swing spring lightning morning evening "
    "topping wiring dressing duckling marking stuffing filling ping pudding opening drawing "
    "clearing sibling being housing vending siding writing lettering lining flooring sting "
    "covering landing seating viking something anything nothing everything rings wrapping "
    "sing kingpin scaffolding"
)
ED_NOUNS = _set("bed shed weed seed sled feed reed moped tweed steed toupeed breed speed red")
PEOPLE = _set(
    "man woman person boy girl guy lady kid child dude gal female male baby toddler player "
    "catcher batter umpire umpire's ump pitcher skier snowboarder surfer skateboarder skater "
    "rider cyclist biker bicyclist worker chef cook waiter waitress bride groom officer "
    "policeman cop soldier fireman firefighter student teacher doctor nurse musician "
    "guitarist drummer singer dancer performer fan spectator friend mother father mom mum dad "
    "daughter son brother sister grandma grandpa grandmother grandfather teenager adult "
    "infant human individual gentleman bystander pedestrian jogger runner swimmer hiker "
    "climber fisherman farmer cowboy clown priest vendor customer driver passenger athlete "
    "referee ref goalie goalkeeper coach golfer boxer wrestler artist photographer cameraman "
    "bartender businessman passerby women's people men women children kids somebody someone "
    "everyone everybody anyone couple crowd audience family team lad fella homie bro chick "
    "youngster preschooler skydiver wakeboarder bicycler bmxer construction-worker conductor "
    "speaker reporter judge model guard protester marcher tourist shopper hitter baseman "
    "police mama momma mommy mommas papa parent teen adults outfielder shortstop teammate "
    "opponent competitor acrobat gymnast cheerleader scout graduate"
)
ANIMALS = _set(
    "dog puppy cat kitten horse pony cow bull calf sheep lamb goat elephant giraffe zebra "
    "bear bird duck goose pigeon seagull parrot monkey ape deer fox wolf lion tiger rabbit "
    "bunny mouse rat pig chicken rooster turtle fish shark camel llama donkey swan owl animal "
    "pup ram"
)
CLOTHING = _set(
    "shirt t-shirt tshirt tee jacket coat sweater sweatshirt hoodie vest suit dress skirt "
    "pants shorts jeans trousers hat cap helmet glove scarf tie shoe sneaker boot sandal sock "
    "belt uniform jersey swimsuit bikini trunks top tank blouse robe gown apron glasses "
    "sunglasses goggles mask bandana headband hood outfit clothing clothes costume tuxedo tux "
    "overalls bib jumpsuit wetsuit swimwear bathing-suit attire gear pajamas leotard kimono "
    "blazer jumper cardigan parka poncho raincoat sleeve flannel hijab headscarf turban "
    "beanie visor sari kilt leather denim khakis leggings tights stocking stripes plaid camo "
    "camouflage polo ponytail pigtail mohawk earring necklace watch bracelet beard mustache "
    "moustache goatee hair curls tattoo jacket's sweatpants coveralls tutu cape wig snowsuit "
    "turtleneck fleece underwear bra rags armor scrubs getup windbreaker slacks collar "
    "button-up headphones backpack tanktop nightgown knickers pigtails bun braid braids afro "
    "hardhat fedora sweats fatigues shirtsleeves"
)
CLOTHING_ENDINGS = ("suit", "shirt", "coat", "wear", "dress", "jacket")
BODY = _set(
    "hand arm leg foot face head hair back eye ear nose mouth neck shoulder finger knee elbow "
    "wrist chest stomach butt bottom tail trunk tusk horn wing paw thumb toe chin lap feet "
    "hands legs arms body torso thigh ankle belly hip forehead beard mane snout beak hoof"
)
POSSESSED = _set(
    "mans womans guys girls boys ladys ladies persons kids dudes childs babys dogs cats"
)
SCENES = _set(
    "water grass snow sand street field road park room car bus truck boat chair bed couch "
    "sofa seat basket box bowl cup glass bag sink kitchen air sky pool lake ocean river sea "
    "crowd window mirror tree bush store shop city mouth lap hand hands background pot vase "
    "crib cage pen doorway door building house yard garden beach forest wood woods shade "
    "shadow wheelchair cart plate pan oven cabinet shelf tub bathtub line row group suitcase "
    "stroller pile area kayak canoe wagon market church stadium station airport office "
    "restaurant bar arena lot stand sun sunlight rain dirt mud hay case container jar bucket "
    "can trunk corral fence wetlands game match competition race parade middle flight action "
    "motion driveway alley tunnel hallway bathroom bedroom livingroom desert mountains "
    "mountain hills valley surf wave waves distance video reflection tv kennel stall den nest "
    "bleachers stands dugout"
)
CONTAINERS = _set(
    "cup glass bottle bowl plate jar box can basket bag pitcher mug pot dish tray carton pan "
    "bucket glasses cups bottles bowls plates boxes bags vase case container tub crate "
    "picture photo painting statue drawing image poster sculpture type kind"
)
MODIFIERS = _set(
    "slice piece half bit part top bottom side back front edge corner end tip portion section "
    "rest middle slices pieces parts body kind type sort chunk scoop wedge handful sliver "
    "strip patch quarter halves rear image picture photo photograph pic close-up closeup shot "
    "view inside"
)
"""In "slice of pizza" and "top of the cake", the noun is what follows "of"."""

COMPOUNDS = frozenset(
    tuple(pair.split())
    for pair in (
        "fire hydrant,stop sign,parking meter,traffic light,street light,teddy bear,"
        "stuffed animal,hot dog,cell phone,potted plant,dining table,wine glass,baseball bat,"
        "baseball glove,tennis racket,tennis player,tennis ball,baseball player,soccer player,"
        "soccer ball,football player,basketball player,hockey player,hair dryer,sports ball,"
        "polar bear,remote control,coffee cup,coffee table,coffee mug,trash can,garbage can,"
        "ice cream,swimming pool,street sign,surf board,skate board,snow board,tank top,"
        "tee shirt,t shirt,pizza slice,cake slice,orange slice,bread slice,lemon slice,"
        "sandwich half,police officer,construction worker,motor cycle,washing machine,"
        "coffee maker,life jacket,life vest,bathing suit,wet suit,hard hat,cowboy hat,"
        "ball player,band member,team member,water bottle,wine bottle,beer bottle,pick up,"
        "pickup truck,fire truck,school bus,train car,brick wall,ball cap,baseball cap,"
        "dump truck,desk lamp,table lamp,hand bag,tooth brush,rocking chair,wheel chair,"
        "carry on,high chair,bath tub,folding chair,side walk,stop light,sleeping bag,"
        "wine rack,picture frame,soap dish,towel rack,cutting board,frying pan,cook book,"
        "mail box"
    ).split(",")
)

RELATIONS: dict[tuple[str, ...], str] = {
    tuple(words.split()): name
    for name, many in {
        "next to": "next to,beside,besides,alongside,along side,adjacent to,nextto,beside of,next",
        "near": "near,near to,by,close to,closest to,closer to,nearest to,nearest,closest,near by",
        "behind": "behind,in back of,behind of,in the back of,back of",
        "in front of": "in front of,in the front of,front of,ahead of,infront of,before,infront",
        "above": "above,over,up above",
        "below": "below,under,underneath,beneath,underneath of",
        "on": "on,on top of,upon,atop,onto,on the top of,atop of,aboard,ontop of,up on",
        "in": "in,inside,inside of,into,within,amid,amidst",
        "at": "at", "around": "around", "across": "across,across from,opposite",
        "opposite": "opposite of,opposite from",
        "between": "between,among,amongst,in between,inbetween", "against": "against",
        "from": "from,out of,off of,off", "of": "of", "to": "to,toward,towards",
        "through": "through", "for": "for,during", "along": "along", "past": "past",
        "after": "after", "outside": "outside of", "beyond": "beyond,past",
        "with": "with,w,wit,along with",
    }.items()
    for words in many.split(",")
}  # fmt: skip
"""Prepositions by their words; sides ("left of") are recognized apart."""

SIDE_RELATIONS = {
    "left": "left of", "right": "right of", "top": "on", "front": "in front of", "back": "on",
}  # fmt: skip
"""What "on the left of the bus" says, by its place word; other places keep their preposition."""

VERBS = {
    "holds": "holding", "wears": "wearing", "sits": "sitting", "stands": "standing",
    "rides": "riding", "carries": "carrying", "eats": "eating", "looks": "looking",
    "faces": "facing", "walks": "walking", "plays": "playing", "lies": "lying", "lays": "laying",
    "runs": "running", "jumps": "jumping", "hits": "hitting", "wearin": "wearing",
    "touches": "touching", "uses": "using", "talks": "talking", "watches": "watching",
    "drinks": "drinking", "hold": "holding", "sit": "sitting", "stand": "standing",
    "leans": "leaning", "throws": "throwing", "catches": "catching", "rests": "resting",
    "pulls": "pulling", "pushes": "pushing", "swings": "swinging", "hangs": "hanging",
    "wear": "wearing", "sat": "sitting", "held": "held", "shown": "shown", "seen": "seen",
    "kneels": "kneeling", "reads": "reading", "smiles": "smiling", "sleeps": "sleeping",
    "has": "having", "have": "having", "had": "having", "with": "with", "worn": "worn",
    "see": "seeing", "make": "making", "made": "made", "going": "going", "cut": "cut",
    "contains": "containing", "reaches": "reaching", "riddin": "riding", "holdin": "holding",
    "being": "being", "bent": "bent", "stuck": "stuck", "says": "saying", "say": "saying",
    "goes": "going", "show": "showing", "shows": "showing",
}  # fmt: skip
"""Verb forms that do not end in "-ing" or "-ed"."""
