"""The small world of the stories: its people, things, places, animals and chores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pim.llm_workloads.stories.chance import Chance

T = TypeVar("T")


@dataclass(frozen=True)
class Person:
    """A child or grown-up; `name` is a name or, of a grown-up, 'the baker'."""

    name: str
    female: bool

    def __str__(self) -> str:
        return self.name

    @property
    def she(self) -> str:
        """The subject pronoun."""
        return "she" if self.female else "he"

    @property
    def her(self) -> str:
        """The possessive pronoun."""
        return "her" if self.female else "his"

    @property
    def him(self) -> str:
        """The object pronoun."""
        return "her" if self.female else "him"

    @property
    def hers(self) -> str:
        """The possessive pronoun that stands alone."""
        return "hers" if self.female else "his"

    @property
    def child(self) -> str:
        """Girl or boy."""
        return "girl" if self.female else "boy"

    @property
    def own(self) -> str:
        """The possessive of the name."""
        return f"{self.name}'s"


@dataclass(frozen=True)
class Thing:
    """A thing that is owned, given, left and found, told apart by an adjective: red kite."""

    adjective: str
    noun: str

    def __str__(self) -> str:
        return f"{self.adjective} {self.noun}"

    @property
    def a(self) -> str:
        """With its indefinite article: a red kite, an old bell."""
        return f"{'an' if self.adjective[0] in 'aeiou' else 'a'} {self}"

    @property
    def the(self) -> str:
        """With its definite article."""
        return f"the {self}"


@dataclass(frozen=True)
class Place:
    """Where a thing can be: under the old bridge."""

    preposition: str
    spot: str

    def __str__(self) -> str:
        return f"{self.preposition} {self.spot}"


@dataclass(frozen=True)
class Chore:
    """Something that can be promised: feed the hens, fed the hens."""

    base: str
    past: str

    def __str__(self) -> str:
        return self.base


GIRLS = "Mia Anna Lily Rosa Nora Ella Ivy Zoe Clara Emma Ruth Sara Hana Lena Maya Eva Tess Nell Ada Greta".split()
BOYS = "Tom Ben Sam Max Leo Finn Jack Noah Omar Paul Hugo Ivan Luke Adam Theo Kai Owen Carl Hans Otto".split()
CHILDREN = tuple(Person(name, True) for name in GIRLS) + tuple(Person(name, False) for name in BOYS)

WOMEN = "baker teacher doctor weaver painter cook gardener queen".split()
MEN = "miller farmer sailor tailor smith shepherd fisherman postman".split()
ADULTS = tuple(Person(f"the {role}", True) for role in WOMEN) + tuple(Person(f"the {role}", False) for role in MEN)

THING_ADJECTIVES = (
    "red blue green yellow white black purple brown grey orange silver golden striped tiny big pretty"
).split()
THING_NOUNS = (
    "kite ball drum hat scarf lamp book key coin boat doll ring spoon bell bucket basket cup rope whistle flute "
    "map shell feather ribbon box button cap clock mask hammer jar cart blanket brush net coat sled mirror"
).split()

PLACE_ADJECTIVES = ("", "old ", "big ", "little ", "quiet ", "stone ", "far ")
PLACE_NOUNS = {
    "bridge": "under near",
    "barn": "in behind",
    "well": "beside behind",
    "pond": "near beside",
    "river": "by near",
    "tower": "in under",
    "hill": "on behind",
    "oak": "under behind",
    "mill": "in near",
    "shed": "in behind",
    "garden": "in near",
    "gate": "by behind",
    "wall": "on behind",
    "bench": "on under",
    "cave": "in near",
    "church": "behind near",
    "attic": "in under",
    "road": "beside by",
    "fence": "near behind",
    "beach": "on near",
    "kitchen": "in behind",
    "stable": "in behind",
    "school": "behind near",
    "lake": "by near",
    "forest": "in near",
    "stairs": "on under",
    "porch": "on under",
    "cellar": "in under",
    "fountain": "by beside",
    "meadow": "in beside",
}

ANIMALS = "dog cat goose crow goat hen duck fox rabbit pony mouse owl squirrel frog magpie donkey puppy pig".split()

CHORES = tuple(
    Chore(*chore.split("/"))
    for chore in (
        "feed the hens/fed the hens",
        "water the beans/watered the beans",
        "mend the fence/mended the fence",
        "sweep the floor/swept the floor",
        "wash the cups/washed the cups",
        "milk the cow/milked the cow",
        "bring the wood/brought the wood",
        "bake the bread/baked the bread",
        "paint the door/painted the door",
        "carry the water/carried the water",
        "pick the apples/picked the apples",
        "light the lamps/lit the lamps",
        "close the gate/closed the gate",
        "clean the stable/cleaned the stable",
        "cook the soup/cooked the soup",
        "dig the garden/dug the garden",
        "stack the hay/stacked the hay",
        "fold the sheets/folded the sheets",
        "shut the windows/shut the windows",
        "gather the eggs/gathered the eggs",
        "count the sheep/counted the sheep",
        "chop the carrots/chopped the carrots",
    )
)


class World:
    """Who and what takes part in one story; nobody and nothing comes in twice."""

    def __init__(self, chance: Chance):
        self.chance = chance
        self._taken: set[object] = set()

    def _new(self, options: Sequence[T]) -> T:
        one = self.chance.pick_other(options, self._taken)
        self._taken.add(one)
        return one

    def child(self) -> Person:
        """A girl or boy who is new to the story."""
        return self._new(CHILDREN)

    def adult(self) -> Person:
        """A grown-up who is new to the story."""
        return self._new(ADULTS)

    def thing(self) -> Thing:
        """A thing of a new kind and colour."""
        return Thing(self._new(THING_ADJECTIVES), self._new(THING_NOUNS))

    def place(self) -> Place:
        """Where something can be that nothing else is at."""
        noun = self._new(tuple(PLACE_NOUNS))
        preposition = self.chance.pick(PLACE_NOUNS[noun].split())
        return Place(preposition, f"the {self.chance.pick(PLACE_ADJECTIVES)}{noun}")

    def spot(self) -> str:
        """A place to go to: the old bridge."""
        return f"the {self.chance.pick(PLACE_ADJECTIVES)}{self._new(tuple(PLACE_NOUNS))}"

    def animal(self) -> str:
        """An animal that is new to the story."""
        return self._new(ANIMALS)

    def chore(self) -> Chore:
        """Something to promise."""
        return self._new(CHORES)
