"""A plan: a model placed on a system, operator by operator."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pim.devices.macro import AnalogMacro
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.decomposition import decomposed
from pim.llm_workloads.known_shapes import known_shape, known_shapes
from pim.llm_workloads.model import Model, load_model
from pim.llm_workloads.operators import layer_operators, layer_path, operator_paths
from pim.llm_workloads.sparsity import sparser
from pim.mapping.fit import check_fit
from pim.mapping.gain_cells import check_gain_cells
from pim.mapping.stores import check_stores, with_kept
from pim.mapping.system import PHASES, System
from pim.mapping.tiles import column_arrays


@dataclass(frozen=True)
class Plan:
    """Which device each operator of a model runs on, and the converter ranges found for it.

    Attributes:
        config: shapes of the model, with what stores of keys and values keep of a context.
        system: devices and rules.
        assignment: name of the device, by path of the operator.
        decode: the same for those that go elsewhere when tokens are written one at a time.
        model: the weights; None where only a config was placed, which is enough for cost.
        ranges: converter ranges by path, once calibrated.
        operands: statistics of what each operator multiplies, by path, once calibrated.
        calibration: what the ranges were found on, for the protocol of results.
    """

    config: ModelConfig
    system: System
    assignment: Mapping[str, str]
    model: Model | None = None
    ranges: Mapping[str, Any] = field(default_factory=dict)
    operands: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None
    decode: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        # Whatever is replaced, work is counted for what the stores of this placement keep.
        object.__setattr__(self, "config", with_kept(self.config, self.assignment, self.system))

    def in_phase(self, phase: str) -> "Plan":
        """The plan as it is in one phase, "prefill" or "decode": all operators are where they are then.

        A plan is emulated as in prefill unless it is that of decoding: `pim.evaluate(plan.in_phase("decode"), text)`.
        """
        elsewhere = self.decode if phase == "decode" else {}
        return replace(self, assignment={**self.assignment, **elsewhere}, decode={})

    def model_of(self, path: str) -> Any:
        """The device model that the operator at `path` runs on."""
        return self.system.devices[self.assignment[path]].model

    def segments(self) -> list[range]:
        """Runs of layers whose operators all go to the same devices."""
        operators = layer_operators(self.config)
        layers = [tuple(self.assignment[layer_path(i, op)] for op in operators) for i in self._layers()]
        starts = [i for i in self._layers() if i == 0 or layers[i] != layers[i - 1]]
        return [range(a, b) for a, b in zip(starts, [*starts[1:], len(layers)], strict=True)]

    def _layers(self) -> range:
        return range(self.config.num_hidden_layers)

    def replace(self, changes: Mapping[str, Any]) -> "Plan":
        """The plan with values of its devices changed, by paths such as `weights.adc.bits`; ranges stay."""
        return replace(self, system=self.system.replace(changes))


def place(model: Model | ModelConfig | str, system: System) -> Plan:
    """Place every operator of a model on a system.

    Args:
        model: a model, the name or folder of one, or a config alone (enough for cost), also by the name of a published
            model whose shapes are known, such as "llama-2-70b" (`pim.llm_workloads.known_shapes`).
        system: devices and rules.

    Keys and values go into a device as activations are: written there token by token. Raises MappingError if an analog
    array is too narrow for one weight, if there are too few arrays for the matrices, or if gain cells or stores of keys
    and values are sent what they do not compute; WorkloadError where inputs are to be scored of a model whose keys are
    rotated.

    >>> plan = pim.place("tiny-stories", pim.inference_system(pim.preset("rram-techC"), pim.preset("digital-28nm")))
    """
    if isinstance(model, str):
        model = known_shape(model) if model in known_shapes() else load_model(model)
    config = model.config if isinstance(model, Model) else model
    config = sparser(decomposed(config, system.scored), system.attended, system.attended_by)
    paths = operator_paths(config)
    assignment, decode = ({path: system.device_for(path, phase) for path in paths} for phase in PHASES)
    elsewhere = {path: name for path, name in decode.items() if name != assignment[path]}
    for name in {*assignment.values(), *elsewhere.values()}:
        target = system.devices[name].model
        if isinstance(target, AnalogMacro):
            column_arrays(1, target)
    for where in (assignment, assignment | elsewhere):
        check_fit(config, where, system)
        check_gain_cells(config, where, system)
        check_stores(config, where, system)
    return Plan(config, system, assignment, model if isinstance(model, Model) else None, decode=elsewhere)
