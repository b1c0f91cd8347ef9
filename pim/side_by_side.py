"""Texts side by side in the columns of a terminal."""

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

NARROWEST = 24
"""Characters that a column has at least."""
BETWEEN = " | "


def side_by_side(texts: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Lines of (heading, text) pairs in columns of equal width, the first again beside each few of the others.

    Words are kept whole where they fit, line breaks stay, and what a terminal cannot show is a replacement character.

    >>> print("\\n".join(side_by_side([("one", "a b c"), ("two", "a d c")], 51)))
    one                      | two
    ------------------------ | ------------------------
    a b c                    | a d c
    """
    fit = max(1, (width + len(BETWEEN)) // (NARROWEST + len(BETWEEN)))
    if fit == 1:
        return [line for pair in texts for line in [*_columns([pair], max(width, 1)), ""]][:-1]
    first, others = texts[0], texts[1:]
    groups = [others[at : at + fit - 1] for at in range(0, len(others), fit - 1)] or [[]]
    lines = []
    for group in groups:
        lines += [*_columns([first, *group], width), ""]
    return lines[:-1]


def _columns(texts: Sequence[tuple[str, str]], width: int) -> list[str]:
    each = (width + len(BETWEEN)) // len(texts) - len(BETWEEN)
    columns = [[heading[:each], "-" * each, *wrapped(text, each)] for heading, text in texts]
    rows = zip_longest(*columns, fillvalue="")
    return [BETWEEN.join(cell.ljust(each) for cell in row).rstrip() for row in rows]


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters, words whole where they fit, line breaks kept."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
    wrap = textwrap.TextWrapper(max(width, 1), replace_whitespace=False, break_on_hyphens=False).wrap
    return [piece for line in shown.split("\n") for piece in wrap(line) or [""]]
