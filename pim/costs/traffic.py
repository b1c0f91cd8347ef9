"""What goes over the links of a system in a phase: sums over devices that share a product, vectors handed on.

Devices that share a product add up their results behind `attention.o` and behind the feed-forward layer, each time a
vector of the model's width for every token. What one device gives to another crosses the link between them, and what a
stage of a pipeline gives to the next crosses the link "pipeline", or that of the first device.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.costs.blocks import Block
from pim.costs.collectives import all_reduce, transfer
from pim.costs.ledger import ledger_of
from pim.devices.roofline import Roofline
from pim.llm_workloads.operators import Phase, layer_path
from pim.mapping.plan import Plan

BYTES = 2.0
"""Of a number that is handed on, where a device does not say how it holds one."""


class Traffic(NamedTuple):
    """What a micro-batch sends."""

    blocks: list[Block]
    notes: tuple[str, ...]

    @property
    def time(self) -> Float[Array, "points"]:
        """Time (s) that it takes, one transfer after another."""
        return sum((block.time for block in self.blocks), jnp.zeros(1))


def traffic(plan: Plan, phase: Phase, points: int) -> Traffic:
    """What one micro-batch of a phase sends over the links of its system."""
    sums, unsummed = _sums(plan, phase, points)
    handed, unlinked = _handed_on(plan, phase, points)
    stages, unstaged = _stages(plan, phase, points)
    missing = sorted(unsummed | unlinked | unstaged) if plan.system.links or plan.system.counts else []
    notes = (
        (f"moving vectors over {', '.join(missing)} is not counted: the system has no such link",) if missing else ()
    )
    return Traffic([*sums, *handed, *stages], notes)


def _sums(plan: Plan, phase: Phase, points: int) -> tuple[list[Block], set[str]]:
    """Adding up the results of devices that share a product."""
    blocks, missing, system = [], set(), plan.system
    for part, operator in (("attention", "attention.o"), ("ffn", _down(plan))):
        for name, layers in _layers_by_device(plan, operator).items():
            sharing = system.sharing(name)
            if sharing == 1:
                continue
            link = system.link(name)
            if link is None:
                missing.add(f"{name}-{name}")
                continue
            amount = phase.batch * phase.tokens * plan.config.hidden_size * number_bytes(plan, name)
            spent = all_reduce(link, _at(amount, points), sharing)
            blocks.append(_block("all_reduce", spent, [layer_path(layer, f"{part}.all_reduce") for layer in layers]))
    return blocks, missing


def _handed_on(plan: Plan, phase: Phase, points: int) -> tuple[list[Block], set[str]]:
    """What one device gives to another: inputs of a product where the numbers before it came out elsewhere."""
    blocks, missing, config = [], set(), plan.config
    for operator, source, values in _flows(plan):
        ways: dict[tuple[str, str], list[int]] = {}
        for layer in range(config.num_hidden_layers):
            giver_layer = layer - 1 if source == _down(plan) and operator == "attention.q" else layer
            if giver_layer < 0:
                continue
            way = (plan.assignment[layer_path(giver_layer, source)], plan.assignment[layer_path(layer, operator)])
            if way[0] != way[1]:
                ways.setdefault(way, []).append(layer)
        for (giver, taker), layers in ways.items():
            link = plan.system.link(giver, taker)
            if link is None:
                missing.add(f"{giver}-{taker}")
                continue
            spent = transfer(link, _at(phase.batch * phase.tokens * values * number_bytes(plan, giver), points))
            blocks.append(_block("transfer", spent, [layer_path(layer, operator) for layer in layers]))
    return blocks, missing


def _flows(plan: Plan) -> list[tuple[str, str, int]]:
    """Which product takes the results of which in a layer, and how many values of each token."""
    config, front = plan.config, "ffn.experts.0" if plan.config.ffn.experts else "ffn"
    queries, keys = (heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads))
    first = f"{front}.gate" if config.ffn.gated else f"{front}.up"
    return [
        ("attention.q", _down(plan), config.hidden_size),
        ("attention.qk", "attention.q", queries + keys),
        ("attention.pv", "attention.v", keys),
        ("attention.o", "attention.pv", queries),
        (first, "attention.o", config.hidden_size),
        (_down(plan), first, config.intermediate_size),
    ]


def _down(plan: Plan) -> str:
    return "ffn.experts.0.down" if plan.config.ffn.experts else "ffn.down"


def _stages(plan: Plan, phase: Phase, points: int) -> tuple[list[Block], set[str]]:
    """What each stage of a pipeline gives to the next."""
    system, first = plan.system, next(iter(plan.system.devices))
    if system.pipeline == 1:
        return [], set()
    link = system.links.get("pipeline") or system.link(first)
    if link is None:
        return [], {"pipeline"}
    amount = phase.batch * phase.tokens * plan.config.hidden_size * number_bytes(plan, first)
    return [_block("transfer", transfer(link, _at(amount, points)), ["pipeline"] * (system.pipeline - 1))], set()


def _layers_by_device(plan: Plan, operator: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for layer in range(plan.config.num_hidden_layers):
        found.setdefault(plan.assignment[layer_path(layer, operator)], []).append(layer)
    return found


def number_bytes(plan: Plan, name: str) -> Any:
    """Bytes of a number that a device gives."""
    model = plan.system.devices[name].model
    return model.bytes_of("activation") if isinstance(model, Roofline) else getattr(model, "bytes_per_operand", BYTES)


def _at(amount: Any, points: int) -> Array:
    """An amount at each point, or one for all."""
    found = jnp.asarray(amount, jnp.float32).reshape(-1)
    return found if found.size == 1 else jnp.broadcast_to(found, (points,))


def _block(component: str, spent: tuple[Any, Any], members: Sequence[str]) -> Block:
    """A block of transfers that are all alike, from the time and energy of one."""
    time, energy = spent
    return Block(ledger_of([(component, energy[None], time[None], 0.0)]), [list(members)])
