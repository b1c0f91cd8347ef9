"""Records: frozen dataclasses that are JAX pytrees and know the unit, meaning and range of each field.

A field is one of three kinds. A `leaf` is continuous and traced (a sweep over it compiles once), a `static` one sets a
shape or chooses a law and is part of the compiled structure, a `part` is another record or None (the effect is absent);
a part that is `told` is one that nothing computes with. Nothing is checked in `__post_init__`, which also runs on
tracers: `check` and `cast` are called by the loaders.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pim.devices.errors import DeviceError

T = TypeVar("T")


def leaf(
    unit: str, doc: str, *, low: float = -math.inf, high: float = math.inf, default: Any = dataclasses.MISSING
) -> Any:
    """A continuous field: SI `unit` ("1" where it has none), what it means, and the closed range it may lie in."""
    return dataclasses.field(
        default=default, metadata={"kind": "leaf", "unit": unit, "doc": doc, "low": low, "high": high}
    )


def static(
    doc: str,
    *,
    choices: tuple[Any, ...] = (),
    meanings: Mapping[str, str] | None = None,
    low: int | None = None,
    default: Any = dataclasses.MISSING,
) -> Any:
    """A field that sets a shape or chooses a law: part of the compiled structure. `meanings` tell of its choices."""
    metadata = {"kind": "static", "unit": "1", "doc": doc, "choices": choices, "meanings": meanings or {}, "low": low}
    return dataclasses.field(default=default, metadata=metadata)


def part(doc: str, *, default: Any = dataclasses.MISSING) -> Any:
    """A field that holds another record, or None where the effect is absent."""
    return dataclasses.field(default=default, metadata={"kind": "part", "doc": doc})


def told(doc: str, *, default: Any = dataclasses.MISSING) -> Any:
    """A part that is told and computed with nowhere, or None.

    It is no part of the pytree, so that devices which differ in what is known of them share a compilation; inside
    jitted code, and after `jax.tree.map`, it is None.
    """
    return dataclasses.field(default=default, metadata={"kind": "part", "doc": doc, "told": True})


@dataclass_transform(frozen_default=True, field_specifiers=(leaf, static, part, told))
def record(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass, registered as a pytree with its `static` fields as metadata."""
    frozen = dataclasses.dataclass(frozen=True)(cls)
    meta = {f.name: f.metadata for f in dataclasses.fields(frozen)}  # type: ignore[arg-type]
    dropped = [name for name in meta if meta[name].get("told")]
    return jax.tree_util.register_dataclass(
        frozen,
        data_fields=[name for name in meta if meta[name]["kind"] != "static" and name not in dropped],
        meta_fields=[name for name in meta if meta[name]["kind"] == "static"],
        drop_fields=dropped,
    )


def fields_of(cls: Any) -> dict[str, dataclasses.Field]:
    """The fields of a record class or instance, by name."""
    return {f.name: f for f in dataclasses.fields(cls)}


def walk(node: Any, path: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Every leaf and static field below a record, as (dotted path, field, value); absent parts are passed over."""
    for name, field in fields_of(node).items():
        here = f"{path}.{name}" if path else name
        value = getattr(node, name)
        if field.metadata["kind"] != "part":
            yield here, field, value
        elif value is not None:
            yield from walk(value, here)


def cast(node: T) -> T:
    """The same record with every leaf a float32 array, so that all values of a field share one compilation."""
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), node)


def prepare(node: Any) -> Any:
    """The same record after each part that tabulates something outside jit has done so (its method `prepare`)."""
    parts = {
        name: prepare(getattr(node, name))
        for name, field in fields_of(node).items()
        if field.metadata["kind"] == "part" and getattr(node, name) is not None
    }
    node = dataclasses.replace(node, **parts)
    return node.prepare() if hasattr(node, "prepare") else node


def check(node: Any, where: str) -> None:
    """Raise DeviceError at the first field whose value is not finite, out of range or not one of its choices."""
    for path, field, value in walk(node):
        _check_field(field.metadata, value, f"{where}: {path}")


def in_unit(unit: str, preposition: str = "in ") -> str:
    """The end of a message that asks for a number: " in S", or nothing where there is no unit."""
    return "" if unit == "1" else f" {preposition}{unit}"


def _check_field(meta: Any, value: Any, where: str) -> None:
    if value is None:
        return
    if meta["kind"] == "leaf":
        if isinstance(value, Tracer):  # what is traced has no value yet
            return
        numbers = np.asarray(value, dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise DeviceError(f"{where} is not finite; give a number{in_unit(meta['unit'])}")
        if numbers.size and (numbers.min() < meta["low"] or numbers.max() > meta["high"]):
            bad = numbers.min() if numbers.min() < meta["low"] else numbers.max()
            raise DeviceError(
                f"{where} = {bad:g} is out of range; it may lie in [{meta['low']:g}, {meta['high']:g}]"
                f"{in_unit(meta['unit'], '')}"
            )
    else:
        if meta["choices"] and value not in meta["choices"]:
            raise DeviceError(f"{where} = {value!r} is none of {', '.join(map(str, meta['choices']))}")
        if meta["low"] is not None and not value >= meta["low"]:
            raise DeviceError(f"{where} = {value!r} is too small; it must be {meta['low']} or more")


def replace_at(node: Any, path: str, update: Callable[[Any, dataclasses.Field], Any]) -> Any:
    """A copy of `node` with `update(value, field)` at the dotted `path`; KeyError names the first unknown part."""
    head, _, rest = path.partition(".")
    fields = fields_of(node)
    if head not in fields:
        raise KeyError(head)
    value = getattr(node, head)
    if not rest:
        return dataclasses.replace(node, **{head: update(value, fields[head])})
    if not dataclasses.is_dataclass(value):
        raise KeyError(head)
    return dataclasses.replace(node, **{head: replace_at(value, rest, update)})
