"""Groups of operators that are placed together, and the devices that each may go to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pim.costs.ledger import kind
from pim.devices.digital_macro import DigitalMacro
from pim.devices.errors import DeviceError
from pim.devices.gain_attention import GainAttention
from pim.devices.macro import AnalogMacro
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import operator_paths
from pim.mapping.errors import MappingError
from pim.mapping.gain_cells import check_attention
from pim.mapping.system import PHASES, Rule, System
from pim.mapping.tiles import column_arrays

SCORES, WEIGHTS = "q kT", "p v"
"""The groups of the two products of attention; the inputs of the second are never negative."""
KINDS = (
    ("q, k, v", ("attention.q", "attention.k", "attention.v")),
    (SCORES, ("attention.qk",)),
    (WEIGHTS, ("attention.pv",)),
    ("o", ("attention.o",)),
    ("gate, up", ("ffn.router", "gate", "up")),
    ("down", ("down",)),
    ("head", ("head.transform", "head")),
)
"""Kinds of operators that take the same inputs or follow each other at once, by the name of their group."""
IN_ARRAYS = (AnalogMacro, DigitalMacro, GainAttention)
"""Devices whose room is arrays, which stay where they are."""


class Ways(NamedTuple):
    """The devices, by number, on which a group is while prompts are read and while tokens are written."""

    prefill: int
    decode: int


@dataclass(frozen=True)
class Group:
    """Operators that are placed together.

    Attributes:
        name: "q, k, v".
        kinds: of its operators, see `pim.costs.ledger.kind`.
        dynamic: they multiply activations.
        ways: where it may go.
        refused: why it may not go to other devices, by their names.
    """

    name: str
    kinds: tuple[str, ...]
    dynamic: bool
    ways: tuple[Ways, ...]
    refused: dict[str, str]

    def without(self, refused: Mapping[str, str], names: Sequence[str]) -> "Group":
        """The group with fewer ways: some devices, by their names, cannot have it.

        Raises MappingError if none is left.
        """
        ways = tuple(way for way in self.ways if not {names[way.prefill], names[way.decode]} & set(refused))
        if not ways:
            told = "; ".join(f"{device}: {why}" for device, why in refused.items())
            raise MappingError(f"no device can do {self.name}: {told}")
        return replace(self, ways=ways, refused={**self.refused, **refused})


def groups_of(config: ModelConfig, system: System, *, by_phase: bool = True) -> list[Group]:
    """The groups of a model's operators, and where a system may have each.

    Prompts may be read elsewhere than tokens are written where memories keep what both need; arrays are not written
    twice. Products of activations may be in arrays while tokens are written alone.

    Args:
        config: shapes of the model.
        system: the devices.
        by_phase: whether a group may be on different devices in the two phases at all.

    Raises:
        MappingError: a group that no device can have.
    """
    present = list(dict.fromkeys(kind(path) for path in operator_paths(config)))
    found = []
    for name, ends in KINDS:
        kinds = tuple(k for k in present if any(k == end or k.endswith(f".{end}") for end in ends))
        if kinds:
            found.append(_group(config, system, name, kinds, by_phase))
    return found


def _group(config: ModelConfig, system: System, name: str, kinds: tuple[str, ...], by_phase: bool) -> Group:
    dynamic = name in (SCORES, WEIGHTS)
    refused = {device: why for device in system.devices if (why := _refusal(config, system, device, name))}
    able = [i for i, device in enumerate(system.devices) if device not in refused]
    if not able:
        told = "; ".join(f"{device} {why}" for device, why in refused.items())
        raise MappingError(f"no device of {system.name} can do {name}: {told}")
    models = [device.model for device in system.devices.values()]
    memory = [i for i in able if not isinstance(models[i], IN_ARRAYS)]
    ways = [Ways(i, i) for i in able]
    if by_phase:
        ways += [Ways(a, b) for a in memory for b in (able if dynamic else memory) if a != b]
    return Group(name, kinds, dynamic, tuple(ways), refused)


def _refusal(config: ModelConfig, system: System, device: str, group: str) -> str | None:
    """Why a device cannot have a group of operators, or None."""
    model = system.devices[device].model
    if isinstance(model, GainAttention):
        if group not in (SCORES, WEIGHTS):
            return "computes attention alone"
        try:
            check_attention(config, device)
            model.check_head(config.head_dim)
        except (MappingError, DeviceError) as error:
            return str(error)
    if isinstance(model, AnalogMacro):
        try:
            column_arrays(1, model)
        except MappingError as error:
            return str(error)
        if model.dac.code == "unsigned" and group != WEIGHTS:
            return "drives nothing below zero (dac.code = 'unsigned')"
    return None


def rules_of(groups: list[Group], ways: list[Ways], names: list[str]) -> list[Rule]:
    """The rules that send each group its way.

    >>> rules_of(groups, [Ways(0, 1)] * len(groups), ["gpu", "pim"])[:2]
    [('layers.*.attention.q', 'pim', 'decode'), ('layers.*.attention.q', 'gpu')]
    """
    rules: list[Rule] = []
    for group, way in zip(groups, ways, strict=True):
        for each in group.kinds:
            pattern = pattern_of(each)
            if way.prefill != way.decode:
                rules.append((pattern, names[way.decode], PHASES[1]))
            rules.append((pattern, names[way.prefill]))
    return rules


def pattern_of(kind: str) -> str:
    """The pattern of all operators of a kind.

    >>> pattern_of("ffn.experts.gate"), pattern_of("head")
    ('layers.*.ffn.experts.*.gate', 'head')
    """
    return kind if kind.startswith("head") else f"layers.*.{kind.replace('.experts.', '.experts.*.')}"
