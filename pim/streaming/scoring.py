"""Scoring layer by layer: a layer is read from its checkpoint once, and all chips go through it.

The residual streams of all tokens, of the exact model and of every chip, are what is kept between layers. A matrix is
programmed tile by tile as it is multiplied by (`pim.streamed_product`), so that memory holds the weights of one layer
and the cells of one tile. Draws belong to their sites, so that everything is as `pim.scoring` finds it, to rounding.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from tqdm import tqdm

from pim.devices.random import chip_key, root_key
from pim.emulation import check_devices, emulated, macros
from pim.llm_workloads import transformer
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.text import Batch, ScoredText
from pim.mapping.plan import Plan
from pim.scoring import Scores
from pim.streaming.identity import run_identity
from pim.streaming.layers import placed_layer, placed_outer, through_layer
from pim.streaming.read_out import read_out_sums
from pim.streaming.source import Source, outer_parameters, source_of
from pim.streaming.streams import InFolder, InMemory, Streams, as_arrays, as_batches

BATCH_BYTES = 1 << 29
"""Of the activations of a layer that a batch may take."""
EXACT = "exact"


def score_streamed(
    plans: Sequence[Plan],
    text: ScoredText,
    *,
    chips: int,
    seed: int,
    time: float | None = None,
    progress: bool = True,
    resume: Path | None = None,
) -> Scores:
    """Score plans of one model as `pim.scoring.score` does, layer by layer.

    Args:
        plans: of one model; they differ in values of their devices.
        text: what is scored.
        chips: instances of the hardware.
        seed: of chips and reads.
        time: s since programming; by default each device's reference time.
        progress: show a bar over layers and chips on standard error after two seconds.
        resume: folder in which the streams are kept, and from which a run that was interrupted goes on, behind the
            last layer and chip that it had finished, to the same bits.

    Raises:
        StudyError: the folder holds another run, or has no room.
    """
    model = plans[0].model
    assert model is not None
    for plan in plans:
        check_devices(plan)
    source, config = source_of(model), model.config
    batches = list(text.batches(_tokens_at_once(config, plans, text.tokens.shape[1])))
    chip_names = {(point, chip): f"point{point}.chip{chip}" for point, chip in product(range(len(plans)), range(chips))}
    streams: Streams = InMemory()
    if resume is not None:
        size = 4 * config.hidden_size * sum(b.tokens.size for b in batches)
        run = run_identity(plans, text, chips=chips, seed=seed, time=time)
        streams = InFolder(resume, run, need=(len(chip_names) + 2) * size)
    run = _Run(plans, source, batches, streams, seed, time)
    depth = config.num_hidden_layers
    names = [EXACT, *chip_names.values()]
    bar = tqdm(total=len(names) * (depth + 1), desc="scoring", unit="layer", disable=not progress, delay=2)
    bar.update(sum(min(streams.stage(name), depth + 1) for name in names))
    for index in range(depth):
        run.through(index, chip_names, bar.update)
    run.read_out(chip_names, bar.update)
    bar.close()
    digital = streams.load(EXACT)
    found = {name: np.zeros((len(plans), chips, text.count)) for name in digital}
    for (point, chip), name in chip_names.items():
        for kind, values in streams.load(name).items():
            found[kind][point, chip] = values
    return Scores(**found, digital=digital["nll"], digital_right=digital["right"], tokens=text.scored_tokens())


class _Run:
    """A run while it lasts: what every step through a layer needs."""

    def __init__(
        self,
        plans: Sequence[Plan],
        source: Source,
        batches: Sequence[Batch],
        streams: Streams,
        seed: int,
        time: float | None,
    ):
        self.plans, self.source, self.batches, self.streams, self.time = plans, source, batches, streams, time
        self.root = root_key(seed)

    def through(self, index: int, chips: dict[tuple[int, int], str], done: Any) -> None:
        """All streams that are not yet behind a layer, through it."""
        waiting = {at: name for at, name in chips.items() if self.streams.stage(name) <= index}
        exact = self.streams.stage(EXACT) <= index
        if not waiting and not exact:
            return
        layer = jax.tree.map(jnp.asarray, dict(self.source.layer(index)))
        if exact:
            self._step(EXACT, index, layer, {}, None)
            done()
        for (point, chip), name in waiting.items():
            plan = self.plans[point]
            placed = placed_layer(plan, index, layer, time=self.time)
            self._step(name, index, placed, emulated(plan), chip_key(self.root, chip))
            done()

    def _step(self, name: str, index: int, layer: Any, devices: Any, key: Array | None) -> None:
        config = self.source.config
        behind = [
            np.asarray(through_layer(config, layer, devices, x, batch.documents, key))
            for x, batch in zip(self._stream(name), self.batches, strict=True)
        ]
        self.streams.keep(name, index + 1, as_arrays(behind))

    def _stream(self, name: str) -> Iterator[Any]:
        """The batches of a stream, as the next layer gets them."""
        if self.streams.stage(name):
            yield from as_batches(self.streams.load(name))
            return
        front = self.source.outer(without=("embed", "head"))
        for batch in self.batches:
            rows = jnp.asarray(self.source.embed_rows(batch.tokens))
            yield transformer.embedded(self.source.config, front, rows)

    def read_out(self, chips: dict[tuple[int, int], str], done: Any) -> None:
        """The sums of every stream, which take its place; the exact model's last, since the others need it."""
        last = self.source.config.num_hidden_layers
        left = {at: name for at, name in chips.items() if self.streams.stage(name) <= last}
        if not left and self.streams.stage(EXACT) > last:
            return
        params = jax.tree.map(jnp.asarray, dict(outer_parameters(self.source)))
        for (point, chip), name in left.items():
            plan = self.plans[point]
            placed = placed_outer(plan, params, time=self.time)
            self._sums(name, last, params, placed, emulated(plan), chip_key(self.root, chip))
            done()
        if self.streams.stage(EXACT) <= last:
            self._sums(EXACT, last, params, params, {}, None)
            done()

    def _sums(self, name: str, last: int, exact: Any, placed: Any, devices: Any, key: Array | None) -> None:
        pairs = list(zip(self._stream(EXACT), self._stream(name), strict=True))
        found = read_out_sums(self.source.config, exact, placed, devices, self.batches, pairs, key)
        self.streams.keep(name, last + 1, found)


def _tokens_at_once(config: ModelConfig, plans: Sequence[Plan], longest: int) -> int:
    """Tokens whose activations in a layer take about `BATCH_BYTES`: of the layer itself, or as levels of word lines."""
    attention = 2 * config.num_attention_heads * longest
    layer = 8 * config.hidden_size + 3 * config.intermediate_size + attention
    widest = max(n_in for n_in, _ in config.matrix_shapes.values())
    reads = max((macro.reads for plan in plans for macro in macros(plan).values()), default=0)
    return max(1, BATCH_BYTES // (4 * (layer + 2 * reads * widest)))
