"""The verb `cost`: what a product, or a language model on a system, takes in energy, time and area."""

from collections.abc import Mapping
from typing import Any, overload

import numpy as np

from pim.costs.configurations import many
from pim.costs.digital_operands import DigitalOperands
from pim.costs.ledger import Cost
from pim.costs.loading_cost import Load, memory_interface
from pim.costs.operands import Operands
from pim.costs.plan_cost import GENERATE, PROMPT, PlanCost, plan_cost
from pim.costs.step_cost import StepCost, step_cost
from pim.costs.subject import Subject, notes, product_ledger
from pim.counts import check_count
from pim.devices.components.memory_interface import MemoryInterface
from pim.devices.device import Device
from pim.devices.digital_macro import DigitalMacro
from pim.devices.digital_unit import DigitalUnit
from pim.devices.dram.work import OPERATIONS, Work
from pim.devices.macro import AnalogMacro, Ideal
from pim.devices.near_dram import NearDram
from pim.devices.near_flash import NearFlash
from pim.devices.roofline import Roofline
from pim.dram_trace import trace_of
from pim.errors import StudyError
from pim.mapping.plan import Plan


@overload
def cost(
    what: Device | AnalogMacro | DigitalMacro | DigitalUnit | Ideal | NearDram | NearFlash | Roofline,
    shape: tuple[Any, Any],
    *,
    vectors: Any = 1,
    operands: Operands | DigitalOperands | None = None,
    operation: str = "gemv",
    copies: Any = 1,
    over: Mapping[str, Any] | None = None,
    trace: bool = False,
    weights: str = "resident",
    memory: Device | MemoryInterface | None = None,
) -> Cost: ...
@overload
def cost(
    what: Plan,
    *,
    batch: int = 1,
    prompt: int = PROMPT,
    generate: int = GENERATE,
    weights: str = "resident",
    memory: Device | MemoryInterface | None = None,
) -> PlanCost: ...
@overload
def cost(what: Plan, *, batch: Any = 1, context: Any, tokens: int = 1, accepted: float | None = None) -> StepCost: ...
def cost(
    what: Any,
    shape: tuple[Any, Any] | None = None,
    *,
    vectors: Any = 1,
    operands: Operands | DigitalOperands | None = None,
    operation: str = "gemv",
    copies: Any = 1,
    over: Mapping[str, Any] | None = None,
    batch: Any = 1,
    prompt: int = PROMPT,
    generate: int = GENERATE,
    context: Any = None,
    tokens: int = 1,
    accepted: float | None = None,
    trace: bool = False,
    weights: str = "resident",
    memory: Device | MemoryInterface | None = None,
) -> Any:
    """What products with a matrix cost on a device, or what a language model costs on a system.

    Args:
        what: a device that holds a matrix of `shape`, or a plan.
        shape: (n_in, n_out), integers or arrays of them: 1e5 shapes are one call.
        vectors: input vectors, one after another; may be an array too.
        operands: statistics of inputs and cells (`chip.operands(x)`), of a macro; without them inputs and weights of an
            analog one count as uniform over their ranges, and a digital one has its own; the notes say which.
        operation: what the banks of a near-DRAM device do: "gemv", a matrix of weights; "score", keys of `n_in` numbers
            for `n_out` tokens; "context", values of `n_out` numbers for `n_in` tokens. Other devices know "gemv" only.
        copies: matrices of that shape at the banks: heads; may be an array.
        over: many configurations of the device in one call: arrays of values, all of one length, by the dotted paths of
            continuous fields ("adc.bits", "vdd"). Sizes are single then, or one for each configuration.
        batch: sequences of a plan's run; with `context` it may be an array.
        prompt: tokens that each is given, read in one go.
        generate: tokens that each then writes, one at a time.
        context: tokens of each sequence when a step of decoding ends, an array or one number: asks for the cost of that
            one step of a plan in place of a run, at every batch and context.
        tokens: new tokens of each sequence in such a step: more than one are verified at once (speculative decoding).
        accepted: those of them that are kept on average; all by default.
        trace: whether the commands of a near-DRAM device are listed too, one by one, as `cost.trace`; of one shape.
        weights: "resident", in the device for good (what loading them takes stands beside: `cost.loading`,
            `cost.streamed`), or "streamed": loaded once for all vectors, of a plan once for every step, and in the
            ledger.
        memory: where weights come from: a `MemoryInterface` or a component; by default DRAM at 3.7 pJ a bit.

    Returns:
        For a device a `Cost`, whose figures have the common shape of `shape`, `vectors` and `operands`, or that of the
        values in `over`; for a plan a `PlanCost`, with prefill and decode apart, or for a context a `StepCost`.

    Raises:
        DeviceError: a trace of several shapes, or of more commands than can be listed; a path in `over` that is not
            continuous, or a value there that is out of range.
        StudyError: a size that is not positive and whole, an operation that the device does not know, a device whose
            cost is not known, or streamed weights where there are none.

    Example:
        >>> pim.cost(pim.preset("rram-techC"), (128, 128)).energy
        >>> pim.cost(pim.preset("dram-attacc"), (128, 2048), operation="score", copies=96).latency
        >>> pim.cost(pim.preset("dram-aim"), (4096, 4096), trace=True).trace.save("gemv.aim", format="aim")
        >>> pim.cost(device, (128, 128), over={"adc.bits": bits, "vdd": supplies}).energy
        >>> pim.cost(pim.preset("sram-qs28"), (4096, 4096), vectors=16).streamed.energy
        >>> pim.cost(plan, prompt=512, generate=128).energy_per_token
        >>> pim.cost(plan, batch=np.array([1, 8, 64]), context=2048).tokens_per_second
    """
    if trace and not isinstance(what.model if isinstance(what, Device) else what, NearDram):
        raise StudyError("a trace lists the commands of a product on a near-DRAM device: leave trace away for others")
    if weights not in WEIGHTS:
        raise StudyError(f"weights = {weights!r} is none of {', '.join(WEIGHTS)}")
    source = memory_interface(memory)
    if isinstance(what, Plan):
        if shape is not None:
            raise StudyError("a plan has matrices of its own: leave the shape away, or give a device")
        if over is not None:
            raise StudyError("`over` runs over the values of one device: price a plan for each, plan.replace(changes)")
        if operation != "gemv" or np.size(copies) != 1 or copies != 1 or np.size(vectors) != 1 or vectors != 1:
            raise StudyError("a plan has products of its own: leave operation, copies and vectors away")
        if context is not None:
            if weights == "streamed":
                raise StudyError("a step has resident weights: ask for a run, prompt= and generate=, to stream them")
            for name, value in (("batch", batch), ("context", context), ("tokens", tokens)):
                check_count(name, value)
            return step_cost(what, batch=batch, context=context, tokens=tokens, accepted=accepted)
        for name, value in (("batch", batch), ("prompt", prompt), ("generate", generate)):
            check_count(name, value)
        return plan_cost(what, batch=batch, prompt=prompt, generate=generate, weights=weights, memory=source)
    if shape is None:
        raise StudyError("the cost of a device needs the shape of a matrix: pim.cost(device, (n_in, n_out))")
    n_in, n_out = shape
    for name, value in (("n_in", n_in), ("n_out", n_out), ("vectors", vectors), ("copies", copies)):
        check_count(name, value)
    model = what.model if isinstance(what, Device) else what
    _check_operation(model, operation, copies)
    given = _statistics(model, operands)
    subject = Subject(what, n_in, n_out, vectors, given, operation, copies)
    if over is not None:
        if trace:
            raise StudyError("a trace lists the commands of one device: leave trace or `over` away")
        if weights == "streamed":
            raise StudyError("weights are streamed into one device: leave weights or `over` away")
        return many(subject, over)
    ledger = product_ledger(model, *subject.sizes, operands=given, operation=operation)
    listed = trace_of(model, Work(operation, *subject.sizes)) if trace else None
    load = Load(what, *subject.sizes, source) if operation == "gemv" else None
    found = Cost(ledger, notes(subject), listed, subject, load)
    return found.streamed if weights == "streamed" else found


WEIGHTS = ("resident", "streamed")


def _check_operation(model: Any, operation: str, copies: Any) -> None:
    if operation not in OPERATIONS:
        raise StudyError(f"operation = {operation!r} is none of {', '.join(OPERATIONS)}")
    if not isinstance(model, NearDram) and (operation != "gemv" or np.size(copies) != 1 or copies != 1):
        raise StudyError(
            f"operation and copies are for near-DRAM devices, not for a {type(model).__name__}: leave them away"
        )


def _statistics(model: Any, operands: Any) -> Operands | DigitalOperands | None:
    """The operand statistics, if they are of the kind that the cost of this model depends on."""
    kind = Operands if isinstance(model, AnalogMacro) else DigitalOperands if isinstance(model, DigitalMacro) else None
    if operands is None or kind is None or isinstance(operands, kind):
        return None if kind is None else operands
    raise StudyError(
        f"the cost of this {type(model).__name__} depends on {kind.__name__}, not on {type(operands).__name__}: take "
        "those of a chip of this device, chip.operands(x)"
    )
