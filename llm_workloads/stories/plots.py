"""The plots: what happens, in which order; the end of each depends on its beginning.

A plot leaves out what only surrounds it: the opening, the questions and the closing.
"""

from pim.llm_workloads.stories.scenes import DAYS
from pim.llm_workloads.stories.teller import Teller


def lost_and_found(story: Teller) -> None:
    """A thing is left somewhere, missed, looked for and found where it was left."""
    world, a = story.world, story.hero
    t, p = world.thing(), world.place()
    story.happens("owns", a=a, t=t)
    story.happens("left", a=a, t=t, p=p)
    story.meanwhile()
    story.happens("missed", a=a, t=t)
    story.happens("searched", a=a, q=world.place(), x=world.animal)
    story.happens("found", a=a, t=t, p=p)


def stolen(story: Teller) -> None:
    """An animal carries off what was left, and it is found where the animal hid it."""
    world, a = story.world, story.hero
    t, p, q, x = world.thing(), world.place(), world.place(), world.animal()
    story.happens("left", a=a, t=t, p=p)
    story.happens("took", a=a, t=t, q=q, x=x)
    story.meanwhile()
    story.happens("missed", a=a, t=t)
    story.happens("found", a=story.chance.pick((lambda: a, world.child))(), t=t, p=q)


def lent(story: Teller) -> None:
    """A thing is lent and comes back to its owner when it was promised."""
    world, a, b = story.world, story.hero, story.world.child()
    t, d = world.thing(), story.chance.pick(DAYS)
    story.happens("owns", a=a, t=t)
    story.happens("lent", a=a, b=b, t=t)
    story.happens("will_return", a=a, b=b, t=t, d=d)
    story.meanwhile()
    story.happens("returned", a=a, b=b, t=t, d=d)


def gift(story: Teller) -> None:
    """A gift is kept at a place, fetched from there, and its giver is thanked."""
    world, a, b = story.world, story.world.child(), story.hero
    t, p = world.thing(), world.place()
    story.happens("gave", a=a, b=b, t=t)
    story.happens("keeps", a=b, t=t, p=p)
    story.meanwhile()
    story.happens("fetched", a=b, b=world.child, t=t, p=p)
    story.happens("thanked", a=b, b=a, t=t)


def promise(story: Teller) -> None:
    """A promise is made, the day goes by, the promise is kept and rewarded."""
    world, a, b = story.world, story.hero, story.world.adult()
    c, d = world.chore(), story.chance.pick(DAYS)
    story.happens("promised", a=a, b=b, c=c, d=d)
    story.meanwhile()
    story.happens("kept_promise", a=a, b=b, c=c, d=d)
    story.happens("praised", a=a, b=b, t=world.thing())


def kindness(story: Teller) -> None:
    """Someone is kind to a child in trouble and gets the child's dearest thing for it."""
    world, a = story.world, story.hero
    b, t = story.chance.pick((world.child, world.adult))(), world.thing()
    story.happens("owns", a=a, t=t)
    story.happens("trouble", a=a)
    story.happens("helped", a=a, b=b)
    story.meanwhile()
    story.happens("repaid", a=a, b=b, t=t)


def swap(story: Teller) -> None:
    """Two children swap their things and each keeps the other's."""
    world, a, b = story.world, story.hero, story.world.child()
    t, u = world.thing(), world.thing()
    story.happens("owns", a=a, t=t)
    story.happens("owns", a=b, t=u)
    story.happens("swapped", a=a, b=b, t=t, u=u)
    story.meanwhile()
    story.happens("content", a=a, b=b, t=t, u=u)


def errand(story: Teller) -> None:
    """A thing is carried to the one it is for, whatever happens on the way."""
    world, a, b, x = story.world, story.hero, story.world.adult(), story.world.adult()
    t = world.thing()
    story.happens("errand", a=a, b=b, x=x, t=t)
    story.meanwhile()
    if story.chance.pick((True, False)):
        p = world.place()
        story.happens("left", a=a, t=t, p=p)
        story.happens("found", a=a, t=t, p=p)
    story.happens("delivered", a=a, b=b, t=t)


PLOTS = (lost_and_found, stolen, lent, gift, promise, kindness, swap, errand)
