"""Many configurations of one device, priced in one call: its continuous fields run over arrays of values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pim.costs.ledger import Cost, Ledger
from pim.costs.operands import uniform_operands
from pim.costs.subject import Subject, notes, product_ledger
from pim.devices.device import Device, cast_leaf
from pim.devices.errors import DeviceError, nearest
from pim.devices.macro import AnalogMacro
from pim.devices.reach import extrapolations
from pim.devices.record import check, prepare, replace_at, walk
from pim.errors import StudyError

AT_ONCE = 128
"""Configurations whose uniform operands are worked out side by side: each takes a table of levels."""

INPUTS_AND_CELLS = ("dac", "cell", "weight_bits", "residual_gain")
"""Fields of a macro that the statistics of uniform operands hang on."""


def continuous(model: Any) -> dict[str, Any]:
    """The values of a model that are traced, by path; absent ones are left out."""
    return {path: v for path, field, v in walk(model) if field.metadata["kind"] == "leaf" and v is not None}


def with_leaves(model: Any, values: Mapping[str, Any]) -> Any:
    """The model with other values at the paths of some leaves; they are not looked at, and may be traced."""
    for path, value in values.items():
        model = replace_at(model, path, lambda *_, v=value: v)
    return model


def many(subject: Subject, over: Mapping[str, Any]) -> Cost:
    """The cost of a product on many configurations of its device; see `pim.cost`.

    Args:
        subject: the product; sizes are single or of the length of the values.
        over: values of continuous fields by path, arrays of one length.

    Raises:
        DeviceError: a path that is no continuous field, a value out of its range, or a figure that is not finite.
        StudyError: arrays of several lengths.
    """
    values = _checked(subject, over)
    count = next(iter(values.values())).shape[0]
    sizes = tuple(_spread(name, size, count) for name, size in zip(SIZES, subject.sizes, strict=True))
    operands = subject.operands
    if operands is None and isinstance(subject.model, AnalogMacro):
        operands = _uniform(subject.model, values)
    elif operands is not None:
        operands = jax.tree.map(lambda figure: _spread("operands", figure, count), replace(operands, source=""))
    ledger = _priced(subject.model, operands, tuple(values.values()), sizes, tuple(values), subject.operation)
    told = (f"{count:,} configurations, over {', '.join(values)}", *_notes(subject, values))
    found = Cost(ledger, tuple(dict.fromkeys(told)), None, subject)
    _check_finite(subject, values, found)
    return found


SIZES = ("n_in", "n_out", "vectors", "copies")


@partial(jax.jit, static_argnames=("paths", "operation"))
def _priced(model, operands, values, sizes, paths: Sequence[str], operation: str) -> Ledger:
    """The ledger of each configuration, behind the axis of rows."""
    own = 0 if isinstance(model, AnalogMacro) or operands is not None else None

    def one(values, sizes, operands) -> Ledger:
        changed = with_leaves(model, dict(zip(paths, values, strict=True)))
        return product_ledger(changed, *sizes, operands=operands, operation=operation)

    return jax.vmap(one, in_axes=(0, 0, own), out_axes=1)(values, sizes, operands)


def _uniform(macro: AnalogMacro, values: Mapping[str, Any]) -> Any:
    """Uniform operands of each configuration, worked out once for all that do not differ in what they hang on."""
    count = next(iter(values.values())).shape[0]
    some = {path: v for path, v in values.items() if path.split(".")[0] in INPUTS_AND_CELLS}
    if not some:
        found = replace(uniform_operands(macro), source="")
        return jax.tree.map(lambda figure: jnp.broadcast_to(figure[None], (count,)), found)
    flat = np.concatenate([np.asarray(v).reshape(count, -1) for v in some.values()], axis=1)
    _, first, of_each = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    filled = np.pad(first, (0, -first.size % AT_ONCE), mode="edge")  # lengths that calls share: fewer compilations
    found = _uniform_each(macro, tuple(v[filled] for v in some.values()), tuple(some))
    return jax.tree.map(lambda figure: figure[of_each.reshape(-1)], found)


@partial(jax.jit, static_argnames="paths")
def _uniform_each(macro, values, paths: Sequence[str]) -> Any:
    def one(values) -> Any:
        return replace(uniform_operands(with_leaves(macro, dict(zip(paths, values, strict=True)))), source="")

    return jax.lax.map(one, values, batch_size=AT_ONCE)


def _checked(subject: Subject, over: Mapping[str, Any]) -> dict[str, Any]:
    """The values as float32 arrays of one length, in the ranges of their fields and of the laws that use them."""
    if not over:
        raise StudyError('over = {} runs over nothing: give arrays of values by path, such as {"adc.bits": [4, 6, 8]}')
    name = subject.device.name if isinstance(subject.device, Device) else type(subject.model).__name__
    known = continuous(subject.model)
    fields = {path: field for path, field, _ in walk(subject.model)}
    found: dict[str, Any] = {}
    for path, values in over.items():
        where = f"{name}: {path}"
        if path in fields and path not in known:
            why = "is absent" if fields[path].metadata["kind"] == "leaf" else "sets a structure"
            raise DeviceError(f"{where} {why}: `over` runs over continuous values, {', '.join(known)}")
        if path not in known:
            raise DeviceError(f"{name} has no continuous value {path!r}; {nearest(path, known)}")
        cast = cast_leaf(values, where, fields[path].metadata["unit"])
        if cast.shape[1:] != np.shape(known[path]) or cast.ndim == 0 or cast.shape[0] == 0:
            asked = "n" if not np.shape(known[path]) else f"n, {str(np.shape(known[path]))[1:-1].rstrip(',')}"
            raise DeviceError(f"{where} has the shape {cast.shape}; `over` takes an array of the shape ({asked})")
        found[path] = cast
        check(with_leaves(subject.model, {path: cast}), name)
        for extreme in _extremes(cast):
            prepare(with_leaves(subject.model, {path: extreme}))
    lengths = {path: v.shape[0] for path, v in found.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{path} {length}" for path, length in lengths.items())
        raise StudyError(f"the arrays of `over` have several lengths ({told}): give one value a configuration")
    return found


def _extremes(values: Any) -> list[Any]:
    """The smallest and the largest of single numbers; of tables the first and the last."""
    return [values.min(), values.max()] if values.ndim == 1 else [values[0], values[-1]]


def _spread(name: str, size: Any, count: int) -> Any:
    if np.ndim(size) == 0 or np.shape(size) == (count,):
        return jnp.broadcast_to(jnp.reshape(jnp.asarray(size), (-1,)), (count,))
    raise StudyError(f"{name} has the shape {np.shape(size)}; with `over` give one number, or {count}")


def _notes(subject: Subject, values: Mapping[str, Any]) -> list[str]:
    """The notes of the device, and what laws do not reach at the ends of the values."""
    told = list(notes(subject))
    for path, each in values.items():
        for extreme in _extremes(each):
            told += extrapolations(with_leaves(subject.model, {path: extreme}))
    return told


def _check_finite(subject: Subject, values: Mapping[str, Any], found: Cost) -> None:
    """Raise DeviceError where a figure is not finite that is finite for the device as it is."""
    for figure in ("energy", "latency", "area"):
        bad = ~np.isfinite(np.asarray(getattr(found, figure)))
        if not bad.any() or _unknown(subject, figure):
            continue
        first = int(bad.argmax())
        told = ", ".join(f"{path} = {np.asarray(each[first]).tolist()}" for path, each in values.items())
        raise DeviceError(f"configuration {first} ({told}) has no finite {figure}: its laws do not reach that far")


def _unknown(subject: Subject, figure: str) -> bool:
    """Whether the device itself does not know its energy, say."""
    ledger = product_ledger(subject.model, *subject.sizes, operands=subject.operands, operation=subject.operation)
    return not np.isfinite(np.asarray(getattr(ledger, figure))).all()
