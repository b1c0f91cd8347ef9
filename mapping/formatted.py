"""A device that computes in number formats: the digital baseline, exact but for rounding, free of charge."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from pim.devices.device import Device, Provenance, Source
from pim.devices.errors import DeviceError
from pim.devices.holder import KeyFor
from pim.devices.record import cast, check, fields_of, leaf, record, static
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.formats.format import Format, quantised
from pim.llm_workloads.formats.names import parse_format
from pim.llm_workloads.quantisation.kv import quantised_cache
from pim.llm_workloads.quantisation.split import split
from pim.llm_workloads.transformer import digital_matmul

EXACT = "exact"
"""Stands for float32 where a format may be named."""


class Stored(NamedTuple):
    """A matrix in its format, and the exact one where there is a threshold."""

    kept: Float[Array, "n_in n_out"]
    exact: Float[Array, "n_in n_out"] | None


@record
class Formatted:
    """Weights, inputs, keys and values in number formats, with exact sums of their products.

    Example:
        >>> pim.formatted(weights="int8:channel", inputs="int8:token").model.weights
        'int8:channel'
    """

    weights: str = static("format of matrices of weights, such as int4:group128, or exact", default=EXACT)
    inputs: str = static("format of what they are multiplied by, such as int8:token, or exact", default=EXACT)
    keys: str = static("format of keys in attention, such as int2_min:channel32, or exact", default=EXACT)
    values: str = static("format of values in attention, such as int4:token, or exact", default=EXACT)
    threshold: Float[Array, ""] | None = leaf(
        "1",
        "inputs from this magnitude on are multiplied exactly by the exact weights, as LLM.int8() does; absent: none",
        low=0,
        default=None,
    )

    def prepare(self) -> "Formatted":
        """The device itself, if its formats are known and make sense where they are; else DeviceError."""
        for name, use in (("weights", "weights"), ("inputs", "inputs"), ("keys", "cache"), ("values", "cache")):
            try:
                _format(getattr(self, name), use)
            except WorkloadError as error:
                raise DeviceError(f"{name}: {error}") from error
        return self

    def by_channel(self) -> list[str]:
        """Which of keys and values have a scale for each channel over tokens, once those have passed."""
        formats = {name: _format(getattr(self, name), "cache") for name in ("keys", "values")}
        return [name for name, how in formats.items() if how is not None and how.per == "channel"]

    def hold(self, weights: Float[Array, "n_in n_out"], key_for: KeyFor | None) -> Stored:
        """What the format keeps of the matrix; a digital memory makes no errors."""
        how = _format(self.weights, "weights")
        kept = weights if how is None else quantised(weights, how, -2)
        return Stored(kept, None if self.threshold is None else weights)

    def multiply(self, held: Stored, x: Float[Array, "batch n_in"]) -> Float[Array, "batch n_out"]:
        """The exact product with what the format keeps of the inputs."""
        how = _format(self.inputs, "inputs")

        def product(given: Array) -> Array:
            return digital(given if how is None else quantised(given, how, -1), held.kept)

        if self.threshold is None:
            return product(x)
        usual, large = split(x, self.threshold)
        assert held.exact is not None, "a matrix is held by the device that multiplies by it"
        return product(usual) + digital(large, held.exact)

    def attend(
        self,
        operator: str,
        matrices: Float[Array, "batch heads n_in n_out"],
        x: Float[Array, "batch heads rows n_in"],
        ids: UInt32[Array, "batch time 2"],
    ) -> Float[Array, "batch heads rows n_out"]:
        """A product of attention with keys or values in their formats; queries and weights of values are exact."""
        keys, values = _format(self.keys, "cache"), _format(self.values, "cache")
        return quantised_cache(digital_matmul, keys, values)(operator, matrices, x, ids)


def digital(x: Float[Array, "batch n_in"], w: Float[Array, "n_in n_out"]) -> Float[Array, "batch n_out"]:
    """The product in full float32."""
    return jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST)


def _format(name: str, use: str) -> Format | None:
    return None if name == EXACT else parse_format(name, use)


def formatted(
    *,
    weights: str = EXACT,
    inputs: str = EXACT,
    keys: str = EXACT,
    values: str = EXACT,
    threshold: float | None = None,
) -> Device:
    """A digital device that computes in number formats: the baseline of an accuracy study.

    Args:
        weights: format of matrices of weights: "int8:channel", "int4:group128", "fp8_e4m3:channel", "mxfp4", ...
        inputs: format of what they are multiplied by: "int8:token", "fp8", "mxfp8", ...
        keys: format of keys in attention: "int4:token" (and head), "int2_min:channel32" (each channel over 32 tokens).
        values: format of values there: "int4:token", "int4_min:group32", ...
        threshold: inputs from this magnitude on are multiplied exactly; None: none are.

    Returns:
        The device, for a `System`. It costs nothing: what such arithmetic costs depends on the hardware around it.

    Raises:
        DeviceError: a format that is not known, or makes no sense where it was named; the message says what would.

    Example:
        >>> weights = pim.formatted(weights="int4:group128", inputs="int8:token")
        >>> attention = pim.formatted(keys="int4_min:channel32", values="int4_min:token")
        >>> plan = pim.place("tiny-stories", pim.inference_system(weights, attention))
    """
    model = cast(Formatted(weights, inputs, keys, values, None if threshold is None else jnp.float32(threshold)))
    check(model, "formatted")
    named = dict.fromkeys(fields_of(model), Provenance(unit="1", source="user", grade="user"))
    summary = "number formats, exact but for rounding, free of charge"
    return Device("formatted", "digital", summary, model.prepare(), named, {"user": Source("set by the user")})
