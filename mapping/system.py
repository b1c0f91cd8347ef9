"""A system: devices by name, and the rules of which operators go to which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from pim.devices.components.link import Link
from pim.devices.device import Device, Source
from pim.devices.device import replace as replace_device
from pim.devices.errors import nearest
from pim.llm_workloads.config import SCORED
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.sparsity import check_attended
from pim.mapping.errors import MappingError
from pim.mapping.expert_parallel import CUT, PLACED

DIGITAL_RULES = (("layers.*.attention.qk", "digital"), ("layers.*.attention.pv", "digital"), ("head", "digital"))


PHASES = ("prefill", "decode")
"""Reading many tokens at once, and writing one after another."""

LINKS, WRITING = "links", "writing"
OVERLAP = (LINKS, WRITING)
"""What may go on behind other work; the first is also the name of all links, among those of devices."""

PIPELINE = "pipeline"
"""The link between the stages of a pipeline."""

Rule = tuple[str, str] | tuple[str, str, str]
"""A pattern of operators, the device that they go to and, if the rule is for one alone, the phase."""


@dataclass(frozen=True)
class System:
    """Devices, the rules of which operators go to which, how many there are of each, and what links them.

    An operator (`layers.3.attention.q`, `head`, ...) goes to the device of the first rule whose pattern matches its
    path, and whose phase is the one at hand if it names any; to the first device where no rule matches.

    Attributes:
        devices: by name.
        rules: see `Rule`.
        name: of the system.
        counts: how many of a device there are, where that is more than one; all share every product. Arrays are there
            by the matrix: as many as it takes, or at most so many if they are counted here.
        links: what links the copies of a device, under its name, two devices, under "one-other", and the stages of a
            pipeline, under "pipeline" (without it that of the first device).
        pipeline: stages that the layers are cut into, each with the same share of every device.
        micro_batches: parts in which a batch goes through the stages, one behind the other.
        interleave: sub-batches that each of these parts is cut into, which are on different devices at the same time.
        overlap: what goes on behind other work, of `OVERLAP`: "links", results that leave while the next are found;
            "writing", keys and values into one half of the arrays while the other half multiplies.
        scored: what is written of a token for queries to score it, one of `pim.llm_workloads.config.SCORED`.
        attended: share of the scores that attention gets (`pim.llm_workloads.sparsity`): a claim about the workload.
        attended_by: what chooses them; a "screen" goes to the device of `layers.*.screen.attention.qk`.
        summary: what it is, in a line.
        sources: where its own figures come from, such as counts.
        copies: how often matrices of weights lie in arrays, by a pattern of their paths, of which the first that
            matches counts; the vectors of a step are dealt out to the copies. Other devices than arrays have one.
        experts: "cut": every expert over all copies of a device; "spread": each whole on one of them, or of arrays, all
            side by side.
        routing: how often each expert was chosen in a trace, for the load of the busiest; equally often by default.
        stores: of a device whose keys and values wait beside it, the store (a device with a `KeyValueStore`).

    Example:
        >>> System({"weights": reram, "digital": unit}, rules=[("*.attention.?v", "digital"), ("head", "digital")])
        >>> System({"gpu": gpu, "pim": stack}, [("*.attention.qk", "pim", "decode")], counts={"gpu": 8, "pim": 40})

    Raises:
        MappingError: a rule, count, link or store that names an unknown device, or a count that does not make whole
            stages.
    """

    devices: Mapping[str, Device]
    rules: Sequence[Rule] = ()
    name: str = "system"
    counts: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    pipeline: int = 1
    micro_batches: int = 1
    interleave: int = 1
    scored: str = "keys"
    attended: float = 1.0
    attended_by: str = "pattern"
    summary: str = ""
    sources: Mapping[str, Source] = field(default_factory=dict)
    stores: Mapping[str, str] = field(default_factory=dict)
    copies: Sequence[tuple[str, int]] = ()
    experts: str = CUT
    routing: Sequence[float] = ()
    overlap: Sequence[str] = ()

    def __post_init__(self):
        if not self.devices:
            raise MappingError("a system needs at least one device")
        for pattern, device, *phase in self.rules:
            self._known(device, f"the rule for {pattern!r}")
            if phase and phase[0] not in PHASES:
                raise MappingError(
                    f"the rule for {pattern!r} is for the phase {phase[0]!r}; {nearest(phase[0], PHASES)}"
                )
        for device, count in self.counts.items():
            self._known(device, "counts")
            if count < 1 or count % self.pipeline:
                raise MappingError(
                    f"counts.{device} = {count} does not make {self.pipeline} equal stages of a pipeline"
                )
        for pattern, count in self.copies:
            if count < 1:
                raise MappingError(f"copies of {pattern!r}: give at least 1, not {count}")
        if self.experts not in PLACED:
            raise MappingError(f"experts = {self.experts!r}; {nearest(self.experts, PLACED)}")
        for what in self.overlap:
            if what not in OVERLAP:
                raise MappingError(f"overlap = {what!r}; {nearest(what, OVERLAP)}")
        if LINKS in self.overlap and self.interleave > 1:
            raise MappingError(
                f"overlap = 'links' with interleave = {self.interleave}: sub-batches are on devices and links at the "
                "same time already; take one of the two"
            )
        try:
            check_attended(self.attended, self.attended_by)
        except WorkloadError as error:
            raise MappingError(str(error)) from None
        if self.scored not in SCORED:
            raise MappingError(f"scored = {self.scored!r}; {nearest(self.scored, SCORED)}")
        ends = {PIPELINE, *self.devices, *(f"{one}-{other}" for one in self.devices for other in self.devices)}
        for name in set(self.links) - ends:
            raise MappingError(f"links.{name} links no devices of this system; {nearest(name, ends)}")
        for device, store in self.stores.items():
            self._known(device, "stores")
            self._known(store, f"stores.{device}")
        for name in ("pipeline", "micro_batches", "interleave"):
            if getattr(self, name) < 1:
                raise MappingError(f"{name} = {getattr(self, name)}: give at least 1")

    def _known(self, device: str, where: str) -> None:
        if device not in self.devices:
            raise MappingError(f"{where} names the device {device!r}; {nearest(device, self.devices)}")

    def device_for(self, path: str, phase: str = "prefill") -> str:
        """Name of the device that the operator at `path` goes to in a phase."""
        matches = (
            device
            for pattern, device, *only in self.rules
            if fnmatchcase(path, pattern) and (not only or only[0] == phase)
        )
        return next(matches, next(iter(self.devices)))

    def copies_of(self, path: str) -> int:
        """How often the matrix of an operator lies in arrays."""
        return next((count for pattern, count in self.copies if fnmatchcase(path, pattern)), 1)

    @property
    def groups(self) -> int:
        """Parts that a batch is cut into: sub-batches of all micro-batches."""
        return self.micro_batches * self.interleave

    def count(self, device: str) -> int:
        """How many of a device there are."""
        return self.counts.get(device, 1)

    def sharing(self, device: str) -> int:
        """How many of a device share a product: those of one stage."""
        return max(self.count(device) // self.pipeline, 1)

    def link(self, one: str, other: str | None = None) -> Link | None:
        """What links two devices, or the copies of one; None where nothing is said."""
        if other is None:
            return self.links.get(one)
        return self.links.get(f"{one}-{other}", self.links.get(f"{other}-{one}"))

    def replace(self, changes: Mapping[str, Any]) -> "System":
        """The system with values changed, by paths that begin with a device's name: `weights.adc.bits`."""
        devices = dict(self.devices)
        for path, value in changes.items():
            name, _, field = path.partition(".")
            if name not in devices or not field:
                known = [f"{n}.{p}" for n, d in devices.items() for p in d.paths()]
                raise MappingError(f"{path!r} names no field of this system; {nearest(path, known)}")
            devices[name] = replace_device(devices[name], {field: value})
        return replace(self, devices=devices)

    def citations(self) -> dict[str, Source]:
        """The sources behind every figure of the devices, by their short names."""
        found: dict[str, Source] = dict(self.sources)
        for device in self.devices.values():
            for name, source in device.citations().items():
                found[name if found.get(name, source) == source else f"{device.name}: {name}"] = source
        return found


def inference_system(weights: Device, digital: Device) -> System:
    """The usual first system: the matrices of the layers on one device, attention and the head on a digital unit."""
    return System({"weights": weights, "digital": digital}, DIGITAL_RULES, name=weights.name)
