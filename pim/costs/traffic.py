"""What goes over the links of a system in a phase: sums over devices that share a product, vectors handed on.

Devices that share a product add up their results behind `attention.o` and behind the feed-forward layer, each time a
vector of the model's width for every token; experts that are spread over them are sent their tokens instead. What one
device gives to another crosses the link between them, and what a stage of a pipeline gives to the next crosses the link
"pipeline", or that of the first device. Keys and values of a prompt that is read on one device, while another has the
attention of what follows, cross the link between the two.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pim.costs.blocks import Block
from pim.costs.collectives import Spent, all_reduce, all_to_all, transfer
from pim.costs.ledger import ledger_of
from pim.costs.parts import spread_over
from pim.devices.components.link import Link
from pim.devices.roofline import Roofline
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import DYNAMIC, Phase, layer_path
from pim.mapping.expert_parallel import SPREAD, busiest
from pim.mapping.plan import Plan
from pim.mapping.system import PIPELINE

BYTES = 2.0
"""Of a number that is handed on, where a device does not say how it holds one."""
NOTHING_SPENT: Spent = (jnp.zeros(1), jnp.zeros(1))
"""Where nothing has to move."""


class Traffic(NamedTuple):
    """What a micro-batch sends."""

    blocks: list[Block]
    notes: tuple[str, ...]

    @property
    def time(self) -> Float[Array, "points"]:
        """Time (s) that it takes, one transfer after another."""
        return sum((block.time for block in self.blocks), jnp.zeros(1))


def traffic(plan: Plan, phase: Phase, points: int, kept: Mapping[str, str] | None = None) -> Traffic:
    """What one micro-batch of a phase sends over the links of its system.

    Args:
        plan: the plan, as it is in that phase.
        phase: the phase.
        points: over which its counts run where they are arrays.
        kept: where keys and values are to be afterwards, by path; where they are in this phase if nothing is said.
    """
    sums, unsummed = _sums(plan, phase, points)
    handed, unlinked = _handed_on(plan, phase, points)
    moved, unmoved = _moved_keys(plan, phase, points, kept or {})
    stages, unstaged = _stages(plan, phase, points)
    missing = sorted(unsummed | unlinked | unmoved | unstaged) if plan.system.links or plan.system.counts else []
    notes = (
        (f"moving vectors over {', '.join(missing)} is not counted: the system has no such link",) if missing else ()
    )
    return Traffic([*sums, *handed, *moved, *stages], notes)


# What devices that share a product add up ---------------------------------------------------------------------------


def summed_operators(config: ModelConfig) -> tuple[tuple[str, str], ...]:
    """Behind which products devices add up their results, and the part of the layer that each ends."""
    return ("attention", "attention.o"), ("ffn", _down(config))


class Sum(NamedTuple):
    """What devices that share a product do with its results.

    Attributes:
        component: of the ledger.
        end: of the path.
        spent: time (s) and energy (J) of doing it once; None where no link is given.
    """

    component: str
    end: str
    spent: Spent | None


def sums_of(plan: Plan, phase: Phase, points: int, part: str, name: str) -> list[Sum]:
    """How the devices of a name add up the results of a part of a layer, "attention" or "ffn"."""
    sharing, link = plan.system.sharing(name), plan.system.link(name)
    if sharing == 1:
        return []
    spread = part == "ffn" and plan.config.ffn.experts and plan.system.experts == SPREAD
    ways = ("ffn.dispatch", "ffn.combine") if spread else (f"{part}.all_reduce",)
    component = "all_to_all" if spread else "all_reduce"
    if link is None:
        return [Sum(component, end, None) for end in ways]
    tokens = phase.batch * phase.tokens
    amount = tokens * plan.config.hidden_size * number_bytes(plan, name)
    spent = _routed(plan, link, tokens, amount, sharing) if spread else all_reduce(link, _at(amount, points), sharing)
    return [Sum(component, end, (_at(spent[0], points), _at(spent[1], points))) for end in ways]


def _routed(plan: Plan, link: Link, tokens: Any, amount: Any, devices: int) -> Spent:
    """What goes to the experts that tokens choose, and as much comes back.

    Behind attention tokens lie on all devices: half of its sum deals them out, the other half gathers what they are
    behind the experts (Rajbhandari et al., DeepSpeed-MoE, ICML 2022: communication that both kinds of parallelism
    share). Where an expert is cut over several devices, each of them gets the token.
    """
    ffn, spread = plan.config.ffn, spread_over(plan, devices)
    mean = np.divide(np.multiply(tokens, ffn.experts_per_token), spread)
    _, got = busiest(tokens, ffn.experts, ffn.experts_per_token, spread, plan.system.routing)
    sent = amount * ffn.experts_per_token * -(-devices // spread)
    return all_to_all(link, jnp.asarray(sent, jnp.float32), devices, jnp.asarray(np.divide(got, mean), jnp.float32))


def _sums(plan: Plan, phase: Phase, points: int) -> tuple[list[Block], set[str]]:
    """Adding up the results of devices that share a product."""
    blocks, missing = [], set()
    for part, operator in summed_operators(plan.config):
        for name, layers in _layers_by_device(plan, operator).items():
            for component, end, spent in sums_of(plan, phase, points, part, name):
                if spent is None:
                    missing.add(f"{name}-{name}")
                else:
                    blocks.append(_block(component, spent, [layer_path(layer, end) for layer in layers]))
    return blocks, missing


# What one device gives to another -----------------------------------------------------------------------------------


class Flow(NamedTuple):
    """A product that takes the results of another, and how many values of each token those are."""

    taker: str
    giver: str
    values: int

    def giver_layer(self, layer: int) -> int:
        """The layer of the other, below 0 if there is none: the first product of a layer takes from the one before."""
        return layer - 1 if self.taker == "attention.q" else layer

    def count(self, layers: int) -> int:
        """How often this happens in a model of so many layers."""
        return sum(self.giver_layer(layer) >= 0 for layer in range(layers))


def flows(config: ModelConfig) -> list[Flow]:
    """Which product takes the results of which in a layer."""
    front = "ffn.experts.0" if config.ffn.experts else "ffn"
    queries, keys = (heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads))
    first = f"{front}.gate" if config.ffn.gated else f"{front}.up"
    return [
        Flow("attention.q", _down(config), config.hidden_size),
        Flow("attention.qk", "attention.q", queries + keys),
        Flow("attention.pv", "attention.v", keys),
        Flow("attention.o", "attention.pv", queries),
        Flow(first, "attention.o", config.hidden_size),
        Flow(_down(config), first, config.intermediate_size),
    ]


def transfer_spent(plan: Plan, phase: Phase, points: int, giver: str, taker: str, values: int) -> Spent | None:
    """Time (s) and energy (J) of giving so many values of each token to another device; None where no link is given."""
    if giver == taker:
        return NOTHING_SPENT
    link = plan.system.link(giver, taker)
    if link is None:
        return None
    return transfer(link, _at(phase.batch * phase.tokens * values * number_bytes(plan, giver), points))


def _handed_on(plan: Plan, phase: Phase, points: int) -> tuple[list[Block], set[str]]:
    """Inputs of a product where the numbers before it came out elsewhere."""
    blocks, missing, config = [], set(), plan.config
    for flow in flows(config):
        ways: dict[tuple[str, str], list[int]] = {}
        for layer in range(config.num_hidden_layers):
            before = flow.giver_layer(layer)
            if before < 0:
                continue
            way = (plan.assignment[layer_path(before, flow.giver)], plan.assignment[layer_path(layer, flow.taker)])
            ways.setdefault(way, []).append(layer)
        _add(plan, phase, points, ways, flow.taker, flow.values, blocks, missing)
    return blocks, missing


def _moved_keys(plan: Plan, phase: Phase, points: int, kept: Mapping[str, str]) -> tuple[list[Block], set[str]]:
    """Keys and values of what was read, which go where the tokens that follow will look for them."""
    blocks, missing, config = [], set(), plan.config
    for operator in DYNAMIC:
        ways: dict[tuple[str, str], list[int]] = {}
        for layer in range(config.num_hidden_layers):
            path = layer_path(layer, operator)
            here = plan.assignment[path]
            ways.setdefault((here, kept.get(path, here)), []).append(layer)
        _add(plan, phase, points, ways, operator, kept_values(config), blocks, missing)
    return blocks, missing


def kept_values(config: ModelConfig) -> int:
    """Numbers of the keys of a token in a layer, or of its values."""
    return config.num_key_value_heads * config.head_dim


def _add(plan: Plan, phase: Phase, points: int, ways: Mapping[tuple[str, str], list[int]], operator: str, values: int,
         blocks: list[Block], missing: set[str]) -> None:  # fmt: skip
    """Add the transfers of an operator, by the devices between which they go and the layers in which they do."""
    for (giver, taker), layers in ways.items():
        spent = transfer_spent(plan, phase, points, giver, taker, values)
        if spent is None:
            missing.add(f"{giver}-{taker}")
        elif spent is not NOTHING_SPENT:
            blocks.append(_block("transfer", spent, [layer_path(layer, operator) for layer in layers]))


def _down(config: ModelConfig) -> str:
    return "ffn.experts.0.down" if config.ffn.experts else "ffn.down"


def stage_spent(plan: Plan, phase: Phase, points: int) -> Spent | None:
    """Time (s) and energy (J) of what a stage of a pipeline gives to the next; None where no link is given."""
    system, first = plan.system, next(iter(plan.system.devices))
    if system.pipeline == 1:
        return NOTHING_SPENT
    link = system.links.get(PIPELINE) or system.link(first)
    if link is None:
        return None
    return transfer(link, _at(phase.batch * phase.tokens * plan.config.hidden_size * number_bytes(plan, first), points))


def _stages(plan: Plan, phase: Phase, points: int) -> tuple[list[Block], set[str]]:
    """What each stage of a pipeline gives to the next."""
    spent = stage_spent(plan, phase, points)
    if spent is None:
        return [], {PIPELINE}
    return [] if spent is NOTHING_SPENT else [_block("transfer", spent, [PIPELINE] * (plan.system.pipeline - 1))], set()


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
