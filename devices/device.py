"""A device: a model that computes and costs, with the source of every one of its values beside it.

Names, sources and grades stay out of the model, which is what jitted code sees: a string in there would compile anew
for each device.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from pim.devices.errors import DeviceError, nearest
from pim.devices.macro import AnalogMacro
from pim.devices.precision import Precision, macro_precision
from pim.devices.record import check, fields_of, in_unit, prepare, replace_at, walk

if TYPE_CHECKING:
    from pim.devices.writing import Writing

GRADES = {
    "measured": "refitted from public raw data",
    "stated": "a figure stated by the source",
    "derived": "computed from stated figures; the note says how",
    "fitted": "set so that a published figure comes out; the note says which",
    "recalled": "from memory or unverified; gates nothing",
    "chosen": "a design choice, not a measurement",
    "user": "set by the user",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """Where figures come from."""

    citation: str
    url: str = ""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """The source of one value."""

    unit: str
    source: str
    grade: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Device:
    """Anything that can be handed a matrix.

    >>> device = pim.preset("rram-techC")
    >>> device["adc.bits"]
    8.0
    """

    name: str
    family: str
    summary: str
    model: Any
    provenance: Mapping[str, Provenance]
    sources: Mapping[str, Source]

    def paths(self) -> dict[str, Any]:
        """Every value of the model by its dotted path; absent effects are left out."""
        return {path: value for path, _, value in walk(self.model) if value is not None}

    def __getitem__(self, path: str) -> Any:
        """The value at a dotted path: a float, an integer, a string or an array."""
        values = self.paths()
        if path not in values:
            raise DeviceError(f"{self.name} has no field {path!r}; {nearest(path, values)}")
        value = values[path]
        return value.item() if isinstance(value, jax.Array) and value.ndim == 0 else value

    def precision(self, times: Sequence[float] | None = None, *, seed: int = 0) -> Precision:
        """Levels, SNR of one weight and effective bits at some times (s), and the ADC bits that lose nothing.

        By default at the device's reference time. Raises DeviceError for a device without analog cells, and for a time
        that was not measured.

        >>> print(pim.preset("rram-wan2022").precision([1.0, 86400.0]))
        """
        if not isinstance(self.model, AnalogMacro):
            raise DeviceError(f"{self.name} has no analog cells: its precision is that of its number format")
        return macro_precision(self.model, times, seed=seed)

    def writing(self, *, seed: int = 0) -> "Writing":
        """Pulses, share of failures, time and energy of writing a cell, and of many with `for_cells`.

        By the device's law of write-verify; without one, time and energy as its source gives them. What is unknown is
        None. Raises DeviceError for a device without analog cells.

        >>> print(pim.preset("rram-radar").writing())
        """
        if not isinstance(self.model, AnalogMacro):
            raise DeviceError(f"{self.name} has no analog cells: what writing it costs is not known here")
        from pim.devices.writing import cell_writing

        return cell_writing(self.model.cell, seed=seed)

    def citations(self) -> dict[str, Source]:
        """The sources behind the values that this device still has, by their short names."""
        used = {p.source for p in self.provenance.values()}
        return {name: source for name, source in self.sources.items() if name in used}

    def __repr__(self) -> str:
        lines = [f"Device {self.name} ({self.family}): {self.summary}"]
        for path, field, value in walk(self.model):
            if value is not None:
                lines.append(f"  {path} = {_show(value)}{in_unit(field.metadata['unit'], '')}{_meant(field, value)}")
        return "\n".join(lines)


def _meant(field: dataclasses.Field, value: Any) -> str:
    """What a choice means, where its name alone does not say."""
    meaning = (field.metadata.get("meanings") or {}).get(value) if isinstance(value, str) else None
    return f" ({meaning})" if meaning else ""


def _show(value: Any) -> str:
    """A value in a line."""
    shape = np.shape(value)
    if shape:
        return f"array {shape}"
    return value if isinstance(value, str) else named(value) if callable(value) else f"{value:g}"


def named(function: Any) -> str:
    """A user's function by its name and the first line of its docstring."""
    about = (function.__doc__ or "").strip().splitlines()
    return f"{function.__name__}: {about[0]}" if about else function.__name__


def replace(device: Device, changes: Mapping[str, Any]) -> Device:
    """The device with the values at dotted paths changed; None removes an effect.

    A component takes the place of a part, with the sources of its values.

    Raises DeviceError for an unknown path (with the nearest names), for a value out of its field's range, and for a
    component that is no such part.

    >>> pim.replace(pim.preset("rram-techC"), {"adc.bits": 7, "cell.read_noise": None})
    >>> pim.replace(pim.preset("rram-techC"), {"adc.cost": pim.component("adc-isaac")})
    """
    model, provenance, sources = device.model, dict(device.provenance), dict(device.sources)
    for path, value in changes.items():
        try:
            model = replace_at(
                model,
                path,
                lambda old, field, v=value, p=path: _cast_field(v, old, field, f"{device.name}: {p}"),
            )
        except KeyError:
            raise DeviceError(f"{device.name} has no field {path!r}; {nearest(path, device.paths())}") from None
        for below in [known for known in provenance if known.startswith(f"{path}.")]:
            del provenance[below]
        if isinstance(value, Device):
            renamed = join_sources(sources, value.citations(), value.name)
            for at, known in value.provenance.items():
                provenance[f"{path}.{at}"] = dataclasses.replace(known, source=renamed[known.source])
        else:
            provenance[path] = Provenance(unit="1", source="user", grade="user")
    check(model, device.name)
    sources["user"] = Source("set by the user")
    return dataclasses.replace(device, model=prepare(model), provenance=provenance, sources=sources)


def join_sources(sources: dict[str, Any], more: Mapping[str, Any], name: str) -> dict[str, str]:
    """Add the sources of a component to those of a device, and return the key of each.

    A key that means another source there already gets the component's name in front.
    """
    renamed = {key: key if sources.get(key, source) == source else f"{name}/{key}" for key, source in more.items()}
    sources.update({renamed[key]: source for key, source in more.items()})
    return renamed


def _cast_field(value: Any, old: Any, field: dataclasses.Field, where: str) -> Any:
    """The value as the field wants it."""
    kind = field.metadata["kind"]
    if isinstance(value, Device):
        value = _fitting(value, field, where)
    if kind == "part":
        if value is not None and not dataclasses.is_dataclass(value):
            raise DeviceError(
                f"{where} is a part, not a number: name one of its fields ({', '.join(_names(old))}), or None"
            )
        return None if value is None else _cast_part(value, where)
    if kind == "leaf":
        return cast_leaf(value, where, field.metadata["unit"], shape=None if old is None else np.shape(old))
    return cast_static(value, field, where)


def _fitting(component: Device, field: dataclasses.Field, where: str) -> Any:
    """The component's record, if the field takes such a part."""
    record, found = component.model, f"{component.name} is a {type(component.model).__name__}"
    if field.metadata["kind"] != "part":
        raise DeviceError(f"{where} is a value, and {found}: give a number or a text")
    wanted = [kind for kind in (get_args(field.type) or (field.type,)) if kind is not NoneType]
    if not any(_is_such(record, kind) for kind in wanted):
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in wanted)
        raise DeviceError(f"{where} takes a {names}, and {found}: give another component (pim.components() lists them)")
    return record


def _is_such(record: Any, kind: Any) -> bool:
    """Whether a record is of a class, or has all methods of a protocol."""
    if getattr(kind, "_is_protocol", False):
        return all(hasattr(record, name) for name in vars(kind) if not name.startswith("_"))
    return isinstance(record, kind)


def _cast_part(record: Any, where: str) -> Any:
    """The record with its leaves cast, and those of its parts."""
    changes = {}
    for name, field in fields_of(record).items():
        value, kind = getattr(record, name), field.metadata["kind"]
        if kind == "leaf":
            changes[name] = cast_leaf(value, f"{where}.{name}", field.metadata["unit"])
        elif kind == "part" and dataclasses.is_dataclass(value):
            changes[name] = _cast_part(value, f"{where}.{name}")
    return dataclasses.replace(record, **changes)


def _names(node: Any) -> list[str]:
    return sorted(fields_of(node)) if dataclasses.is_dataclass(node) else ["none: it is absent"]


def cast_leaf(value: Any, where: str, unit: str, shape: tuple[int, ...] | None = None) -> Any:
    """A float32 array (a tracer stays a tracer), or None."""
    if value is None:
        return None
    if not isinstance(value, jax.Array):
        try:
            value = np.asarray(value).astype(np.float64, casting="same_kind")  # "1e-9" in quotes is a text
        except (TypeError, ValueError):
            raise DeviceError(f"{where} = {value!r} is not a number; give one{in_unit(unit)}") from None
        if not np.isfinite(value).all():
            raise DeviceError(f"{where} is not finite; give a number{in_unit(unit)}")
    if shape is not None and np.shape(value) != shape:
        raise DeviceError(f"{where} has the shape {np.shape(value)}; it must be {shape or 'a single number'}")
    return jnp.asarray(value, jnp.float32)


def cast_static(value: Any, field: dataclasses.Field, where: str) -> Any:
    """An integer or a string, as the field is annotated."""
    wanted = int if int in (field.type, *get_args(field.type)) else str
    if (
        wanted is int
        and not isinstance(value, bool)
        and isinstance(value, (int, float, np.number))
        and int(value) == value
    ):
        return int(value)
    if wanted is int or not isinstance(value, wanted):
        raise DeviceError(f"{where} = {value!r} is not {'a whole number' if wanted is int else 'a text'}")
    return value
