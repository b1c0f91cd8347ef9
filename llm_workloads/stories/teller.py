"""Telling one story: its scenes in order, and the questions about what happened."""

from pim.llm_workloads.stories.chance import Chance
from pim.llm_workloads.stories.happenings import HAPPENINGS
from pim.llm_workloads.stories.phrase import Telling, tell
from pim.llm_workloads.stories.scenes import ASKERS, MEANWHILE, QUESTION_FRAMES
from pim.llm_workloads.stories.world import World


class Teller:
    """Tells one story and remembers what happened in it, so that it can be asked about.

    `telling` is the text so far; `questions` are the spans of the answers in it.
    """

    def __init__(self, chance: Chance):
        self.chance = chance
        self.world = World(chance)
        self.hero = self.world.child()
        self.telling = Telling()
        self.questions: list[tuple[int, int]] = []
        self._scenes_told: list[str] = []
        self._happened: list[tuple[str, dict[str, object]]] = []

    def say(self, phrases: tuple[str, ...], **slots: object) -> None:
        """Tell one of the phrases; a slot that is a function is called only if the telling needs it."""
        if self.telling.text:
            self.telling.text += " "
        tell(self.chance.pick(phrases), slots, self.chance, self.telling)

    def happens(self, what: str, **slots: object) -> None:
        """Tell a happening of `pim.llm_workloads.stories.happenings` and remember it for the questions."""
        self.say(HAPPENINGS[what].tellings, **slots)
        self._happened.append((what, slots))

    def meanwhile(self) -> None:
        """Two to four scenes beside the plot; one of them may be somebody else's thing at another place."""
        world = self.world
        scenes = self.chance.pick((2, 3, 4))
        elsewhere = self.chance.below(scenes + 1)
        for scene in range(scenes):
            if scene == elsewhere:
                self.happens("aside", a=world.child(), t=world.thing(), p=world.place())
            else:
                phrase = self.chance.pick_other(MEANWHILE, self._scenes_told)
                self._scenes_told.append(phrase)
                self.say((phrase,), a=self.hero, s=world.place, y=world.animal, z=world.adult)

    def ask(self, count: int) -> None:
        """So many questions (or all there are) about different happenings or different sides of one."""
        possible = [(*question, slots) for what, slots in self._happened for question in HAPPENINGS[what].questions]
        for _ in range(min(count, len(possible))):
            question, lead, answer, slots = possible.pop(self.chance.below(len(possible)))
            frame = _framed(self.chance.pick(QUESTION_FRAMES), question, lead, answer)
            before = len(self.telling.answers)
            self.say((frame,), asker=lambda: self.chance.pick(ASKERS), **slots)
            self.questions.extend(self.telling.answers[before:])


def _framed(frame: str, question: str, lead: str, answer: str) -> str:
    lead = "{" + lead[1].upper() + lead[2:] if lead[0] == "{" else lead[0].upper() + lead[1:]
    return frame.replace("QUESTION", question).replace("LEAD", lead).replace("ANSWER", "{!" + answer + "}")
