"""Short names of formats: a number, and what shares its scale.

int4:channel    int8:token       int4:group128   int8:tensor   int4_asym:group128   int2_min:channel32
fp8_e4m3        fp8_e5m2:token   fp4:group16     mxfp8         mxfp6    mxfp4       mxint8
"""

import re
from difflib import get_close_matches

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.formats.floats import FLOATS, SmallFloat
from pim.llm_workloads.formats.format import Format
from pim.llm_workloads.formats.integers import Integer
from pim.llm_workloads.formats.microscaling import BLOCK, ELEMENTS

_ZEROS = {"": "symmetric", "_asym": "code", "_min": "minimum"}
NUMBERS: dict[str, Integer | SmallFloat] = {
    **{f"int{bits}{ending}": Integer(bits, zero) for ending, zero in _ZEROS.items() for bits in range(2, 9)},
    **FLOATS,
    "fp8": FLOATS["fp8_e4m3"],
    "fp4": FLOATS["fp4_e2m1"],
}
"""Numbers by name: asymmetric integers with zero a code end in _asym, those from the least value in _min."""

USES = {
    "weights": ("tensor", "channel", "group"),
    "inputs": ("none", "token", "group"),
    "cache": ("none", "token", "group", "channel"),
}
"""What may share a scale, by what is quantised. One over all tokens would let the batch change the result."""

_EXAMPLES = {
    "weights": "'int4:channel', 'int4:group128', 'int8:tensor', 'fp8_e4m3:channel' or 'mxfp4'",
    "inputs": "'int8:token', 'int8:group64', 'fp8_e4m3:token' or 'mxfp8'",
    "cache": "'int8:token', 'int4:group32', 'int2_min:channel32' (a channel over 32 tokens) or 'mxfp4'",
}


def parse_format(name: str, use: str | None = None) -> Format:
    """The format of a short name.

    Args:
        name: such as "int4:group128": a number out of `NUMBERS` and, behind a colon, what shares a scale: tensor,
            channel, token, groupN, or channelN of keys and values; floats may go without a scale. Or a microscaling
            format, which says it all.
        use: "weights", "inputs" or "cache", if only what makes sense there is to pass.

    Raises:
        WorkloadError: another name, or one that makes no sense for the use; the message says what would.

    Example:
        >>> parse_format("int4:group128").number.bits
        4
    """
    example = _EXAMPLES.get(use or "weights")
    if not isinstance(name, str):
        raise WorkloadError(f"a format is named by a text such as {example}, not {name!r}")
    number_name, colon, sharer = name.partition(":")
    if number_name in ELEMENTS:
        if colon:
            raise WorkloadError(f"format {name!r}: {number_name} has a scale for each {BLOCK} values by itself")
        return Format(name, ELEMENTS[number_name], "group", BLOCK, microscaled=True)
    if number_name not in NUMBERS:
        close = get_close_matches(number_name, [*NUMBERS, *ELEMENTS], n=2, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise WorkloadError(f"format {name!r}: no number is called {number_name!r}: {hint}Names are like {example}")
    how = _with_sharer(name, NUMBERS[number_name], sharer, example)
    if use is not None:
        _check_use(how, use, example)
    return how


def _with_sharer(name: str, number: Integer | SmallFloat, sharer: str, example: str | None) -> Format:
    if not sharer:
        if isinstance(number, SmallFloat) and ":" not in name:
            return Format(name, number, "none")
        raise WorkloadError(f"format {name!r} does not say what shares a scale: write one like {example}")
    found = re.fullmatch(r"(tensor|token|channel|group)([1-9]\d{0,8})?", sharer)
    if found is None or (found[1] in ("tensor", "token") and found[2]) or (found[1] == "group" and not found[2]):
        raise WorkloadError(
            f"format {name!r}: {sharer!r} does not say what shares a scale; tensor, channel, token, group128 "
            "(any number) and, of keys and values, channel32 (so many tokens) do"
        )
    return Format(name, number, found[1], int(found[2]) if found[2] else None)


def _check_use(how: Format, use: str, example: str | None) -> None:
    wrong = how.per not in USES[use]
    if use == "weights" and how.per == "channel":
        wrong = how.size is not None
    if use == "cache" and how.per == "channel":
        wrong = how.size is None
    if wrong:
        raise WorkloadError(f"format {how.name!r} makes no sense for {use}: use one like {example}")
