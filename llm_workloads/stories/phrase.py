"""A phrase: text with alternatives in it, `{a} [left|put] {a.her} {t} {p}[ and ran off|].`

- `[this|that|]` is one of its alternatives, all equally likely; alternatives may hold further ones.
- `{t}` is what the slot `t` holds, `{a.her}` an attribute of it; a capital (`{A.she}`, `{T}`) starts a sentence.
- `{!p}` is a slot that what was told before determines: its place in the text is recorded.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pim.llm_workloads.stories.chance import Chance


@dataclass(frozen=True)
class Slot:
    """A hole in a phrase, filled by `attribute` (or the whole) of the thing called `name`."""

    name: str
    attribute: str
    capital: bool
    answer: bool


@dataclass(frozen=True)
class Choice:
    """Alternatives of which a telling takes one."""

    options: tuple[tuple[str | Slot | Choice, ...], ...]


Parts = tuple[str | Slot | Choice, ...]


@dataclass
class Telling:
    """The text told so far and the spans (start, end) in it that earlier text determines."""

    text: str = ""
    answers: tuple[tuple[int, int], ...] = ()


def tell(phrase: str, slots: dict[str, object], chance: Chance, telling: Telling) -> None:
    """Append one telling of the phrase, a capital letter first.

    Args:
        phrase: text with alternatives and slots, see the module's docstring.
        slots: what fills the slots; a function is called, once, when its slot is first told.
        chance: makes the choices and counts them.
        telling: what the phrase is appended to.
    """
    start = len(telling.text)
    _tell(parse(phrase), slots, chance, telling)
    if start < len(telling.text):
        text = telling.text
        telling.text = text[:start] + text[start].upper() + text[start + 1 :]


def _tell(parts: Parts, slots: dict[str, object], chance: Chance, telling: Telling) -> None:
    for part in parts:
        if isinstance(part, str):
            telling.text += part
        elif isinstance(part, Choice):
            _tell(chance.pick(part.options), slots, chance, telling)
        else:
            filler = slots[part.name]
            if callable(filler):
                filler = slots[part.name] = filler()
            word = str(getattr(filler, part.attribute) if part.attribute else filler)
            start = len(telling.text)
            telling.text += word[0].upper() + word[1:] if part.capital else word
            if part.answer:
                telling.answers += ((start, len(telling.text)),)


@functools.cache
def parse(phrase: str) -> Parts:
    """The parts of a phrase: literal text, slots and choices."""
    parts, end = _parse(phrase, 0, closing="")
    if end != len(phrase):
        raise ValueError(f"phrase {phrase!r}: a ']' or '|' outside brackets at {end}")
    return parts


def _parse(phrase: str, at: int, closing: str) -> tuple[Parts, int]:
    parts: list[str | Slot | Choice] = []
    while at < len(phrase) and phrase[at] not in "|]":
        if phrase[at] == "[":
            options = []
            while phrase[at] != "]":
                option, at = _parse(phrase, at + 1, closing="]")
                options.append(option)
            parts.append(Choice(tuple(options)))
            at += 1
        elif phrase[at] == "{":
            end = phrase.index("}", at)
            parts.append(_slot(phrase[at + 1 : end]))
            at = end + 1
        else:
            end = min((i for i in (phrase.find(c, at) for c in "[]|{") if i >= 0), default=len(phrase))
            parts.append(phrase[at:end])
            at = end
    if closing and at >= len(phrase):
        raise ValueError(f"phrase {phrase!r}: a '[' is never closed")
    return tuple(parts), at


def _slot(text: str) -> Slot:
    name, _, attribute = text.removeprefix("!").partition(".")
    return Slot(name.lower(), attribute, capital=name[0].isupper(), answer=text.startswith("!"))
