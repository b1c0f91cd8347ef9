"""The verb `generate`: what the exact model and the emulated chips write behind a prompt, and where they part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key

from pim.decoding import decode, exact_log_probabilities
from pim.devices.random import chip_key, choice_key, root_key
from pim.emulation import emulated, program_model
from pim.errors import StudyError
from pim.evaluation import interpolated, setting
from pim.llm_workloads.model import Model
from pim.mapping.plan import Plan
from pim.plan_checks import check_calibrated
from pim.sampling import Sampling, sampling
from pim.side_by_side import side_by_side, wrapped

MARK = "»"
"""Stands in a chip's text where it parts from the exact model's."""


@dataclass(frozen=True)
class Continuation:
    """What one of the models wrote.

    Attributes:
        ids: tokens, with the one that ended the text if it did.
        text: behind the prompt.
        log_probabilities: nats of each token by the model that wrote it, before temperature and what may be chosen.
        exact_log_probabilities: nats of each token by the exact model.
        part: index of the first token that differs from the exact model's, None if none does.
        text_at_part: characters of `text` in front of that token.
    """

    ids: tuple[int, ...]
    text: str
    log_probabilities: Float[np.ndarray, " tokens"]
    exact_log_probabilities: Float[np.ndarray, " tokens"]
    part: int | None = None
    text_at_part: int | None = None

    @property
    def marked(self) -> str:
        """The text with a mark where it parts."""
        at = self.text_at_part
        return self.text if at is None else f"{self.text[:at]}{MARK}{self.text[at:]}"


@dataclass(frozen=True, repr=False)
class Generation:
    """A text written by the exact model, and by each chip.

    Attributes:
        prompt: what they continue.
        prompt_ids: its tokens, with BOS.
        digital: of the exact model.
        chips: of each chip.
        notes: a sentence on each chip: where it parts, and with which word.
        protocol: under what they were written.

    >>> print(pim.generate(plan, "Once upon a time", tokens=30))
    """

    prompt: str
    prompt_ids: tuple[int, ...]
    digital: Continuation
    chips: tuple[Continuation, ...]
    notes: tuple[str, ...]
    protocol: Mapping[str, Any]

    def __repr__(self) -> str:
        return self.shown(118)

    def shown(self, width: int) -> str:
        """Protocol, the texts side by side in `width` characters, and where they part."""
        p = self.protocol
        several = "s" if len(self.chips) != 1 else ""
        head = f"{p['model']} on {p['system']}: {p['sampling']}, {len(self.chips)} chip{several}, seed {p['seed']}"
        texts = [("digital", self.digital.text), *((f"chip {i}", c.marked) for i, c in enumerate(self.chips))]
        columns = side_by_side([(heading, text.strip("\n")) for heading, text in texts], width)
        above = [head, *p["notes"], f"prompt: {self.prompt}"]
        flow = lambda lines: [piece for line in lines for piece in wrapped(line, width)]
        return "\n".join([*flow(above), "", *columns, "", *flow(self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "prompt": self.prompt,
            "prompt_ids": list(self.prompt_ids),
            "digital": _as_dict(self.digital),
            "chips": [_as_dict(chip) for chip in self.chips],
            "notes": list(self.notes),
            "protocol": dict(self.protocol),
        }


def _as_dict(written: Continuation) -> dict[str, Any]:
    return {
        "text": written.text,
        "ids": list(written.ids),
        "part": written.part,
        "log_probabilities": written.log_probabilities.tolist(),
        "exact_log_probabilities": written.exact_log_probabilities.tolist(),
    }


def generate(
    plan: Plan,
    prompt: str,
    *,
    tokens: int = 100,
    chips: int = 1,
    seed: int = 0,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    time: float | None = None,
) -> Generation:
    """Continue a text with the exact model and with emulated chips, token by token, and say where they part.

    All draw with the same random numbers, so that they part only where their logits make them; a token read one by one
    is read with the noise that it has in a whole text.

    Args:
        plan: a model placed on a system; its static ranges must have been calibrated (`pim.calibrate`).
        prompt: the text to continue; it may be empty if the model has a token that begins a text.
        tokens: most tokens to write; a token that ends the text stops earlier.
        chips: instances of the hardware; more never change earlier ones.
        seed: of chips, reads and choices.
        temperature: of the choice; 0: always the likeliest token.
        top_k: choose among so many likeliest tokens only.
        top_p: choose among the fewest likeliest tokens that have this probability together.
        time: s since programming; by default each device's reference time.

    Raises:
        StudyError: a plan without weights or without ranges, an encoder, settings that are out of range, a prompt that
            leaves no room in the model's positions.
        WorkloadError: a prompt that the tokenizer does not know.

    >>> written = pim.generate(plan, "Once upon a time", tokens=50, chips=2, temperature=0.8, top_p=0.95)
    >>> written.chips[0].text, written.chips[0].part
    """
    model = plan.model
    if model is None:
        raise StudyError("this plan was placed from a config alone; to write a text it needs the model's weights")
    given: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    ids, how = prepare(model, prompt, tokens=tokens, chips=chips, **given)
    check_calibrated(plan)
    root = root_key(seed)
    write = partial(_continue, model, ids, tokens, how, choice_key(root))
    digital = write(model.in_memory, None, None, None)
    written = []
    for chip in range(chips):
        key = chip_key(root, chip)
        written.append(write(program_model(plan, key, time), emulated(plan), key, digital.ids))
        _check_finite(written[-1], chip)
    return Generation(
        prompt,
        tuple(ids),
        digital,
        tuple(written),
        tuple(_note(model, i, c, digital) for i, c in enumerate(written)),
        {
            **setting(plan, chips, seed, time),
            "sampling": how.in_words(),
            **given,
            "tokens": tokens,
            "notes": interpolated([plan], time),
        },
    )


def prepare(
    model: Model,
    prompt: str,
    *,
    tokens: int,
    chips: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> tuple[list[int], Sampling]:
    """The prompt's tokens and how tokens are chosen; raises what `generate` would raise before it computes."""
    for name, value in (("tokens", tokens), ("chips", chips)):
        if value < 1:
            raise StudyError(f"{name} = {value}: give at least one")
    return _prompt_ids(model, prompt, tokens), sampling(temperature, top_k, top_p)


def _prompt_ids(model: Model, prompt: str, tokens: int) -> list[int]:
    """BOS and the prompt's tokens, checked."""
    tokenizer, config = model.tokenizer, model.config
    if not config.attention.causal:
        raise StudyError(f"{model.name} is an encoder ({config.family}): it reads whole texts and writes none")
    ids = [*([] if tokenizer.bos_id is None else [tokenizer.bos_id]), *tokenizer.encode(prompt)]
    if not ids:
        raise StudyError("the prompt is empty, and no token of this model begins a text: give a word to go on from")
    wrong = next((i for i in ids if not 0 <= i < config.vocab_size), None)
    if wrong is not None:
        raise StudyError(
            f"the prompt has token id {wrong}, but the vocabulary of {model.name} is {config.vocab_size}: its "
            "tokenizer is of another model"
        )
    room = config.max_position_embeddings - len(ids)
    if tokens > room:
        raise StudyError(
            f"{tokens} tokens behind a prompt of {len(ids)} do not fit the {config.max_position_embeddings} positions "
            f"of {model.name}: " + (f"ask for at most {room}" if room > 0 else "shorten the prompt")
        )
    return ids


def _continue(
    model: Model,
    prompt: Sequence[int],
    tokens: int,
    how: Sampling,
    choices: Key[Array, ""],
    params: Any,
    devices: Any,
    noise: Key[Array, ""] | None,
    exact: Sequence[int] | None,
) -> Continuation:
    """What one model writes; `exact` is what the exact one wrote, to find where they part."""
    tokenizer = model.tokenizer
    start, end = np.array([prompt], np.int32), np.int32(-1 if tokenizer.eos_id is None else tokenizer.eos_id)
    ids, own, count = decode(model.config, params, devices, noise, start, how, choices, end, tokens)
    whole = np.concatenate([start, np.asarray(ids)[None]], axis=1)
    theirs = exact_log_probabilities(model.config, model.in_memory, whole)[len(prompt) - 1 :]
    kept = tuple(np.asarray(ids)[: int(count)].tolist())
    shown = lambda upto: _behind(model, prompt, kept[:upto])
    part = next((i for i, (a, b) in enumerate(zip(kept, exact or (), strict=False)) if a != b), None)
    return Continuation(
        kept,
        shown(len(kept)),
        np.asarray(own)[: len(kept)],
        np.asarray(theirs)[: len(kept)],
        part,
        None if part is None else len(shown(part)),
    )


def _behind(model: Model, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """The text of tokens behind a prompt: what the whole has more, since tokens may mean less alone."""
    decode = lambda some: model.tokenizer.decode([i for i in some if i < model.tokenizer.vocab_size])
    front, whole = decode(prompt), decode([*prompt, *ids])
    return whole[len(front) :] if whole.startswith(front) else decode(ids)


def _check_finite(written: Continuation, chip: int) -> None:
    wrong = ~np.isfinite(written.log_probabilities)
    if wrong.any():
        raise StudyError(
            f"chip {chip}: the logits of token {int(wrong.argmax())} are not finite: a conductance or an activation "
            "has overflowed, or with wires a circuit was not solved; check the device's ranges and errors"
        )


def _note(model: Model, chip: int, written: Continuation, digital: Continuation) -> str:
    """Where a chip parts from the exact model, in a sentence."""
    at = written.part
    if at is None:
        return f"chip {chip} writes the same {len(written.ids)} tokens"

    def word(i: int) -> str:
        return "the end" if i == model.tokenizer.eos_id else repr(model.tokenizer.decode([i]))

    loss, own = (-float(c.exact_log_probabilities.mean()) for c in (written, digital))
    return (
        f"chip {chip} parts at token {at} ({MARK}): {word(written.ids[at])}, where the digital model has "
        f"{word(digital.ids[at])}; to the digital model its text has a loss of {loss:.2f} nat/token, its own {own:.2f}"
    )
