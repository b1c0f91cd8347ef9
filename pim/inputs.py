"""Inputs to word lines: scales, the levels of each step, and what the lines get of them."""

from typing import Any

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key, UInt32

from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import normal, normal_rows, row_keys, site_key


def drive(
    macro: AnalogMacro, x: Float[Array, "batch n_in"], full_scale: Float[Array, ""] | None, whole: bool = False
) -> tuple[Float[Array, "#batch 1"], Float[Array, "reads batch n_in"], Float[Array, "reads"]]:
    """The full scale (the one given, or each token's own largest), and word-line levels and gain of each read.

    `whole`: the levels as whole numbers, and place values as gains.
    """
    if macro.input_range == "token" or full_scale is None:
        largest = jnp.max(jnp.abs(x), axis=1, keepdims=True)
        full = jnp.where(largest == 0, 1.0, largest)
    else:
        full = full_scale[None, None]
    planes, gains = driven_planes(macro, x / full, whole)
    if whole:  # no integer is NaN: what is not finite goes through the scale
        full = full * jnp.where(jnp.isfinite(x).all(axis=1, keepdims=True), 1.0, jnp.nan)
    return full, planes, gains


def driven_planes(
    macro: AnalogMacro, x: Float[Array, "*n"], whole: bool = False
) -> tuple[Float[Array, "reads *n"], Float[Array, "reads"]]:
    """Word-line levels and gain of each read for inputs in [-1, 1]; `whole` as in `drive`.

    With reads by the sign of the input (`read_phases`) the levels above zero come first, then the magnitudes of those
    below, which count negatively.
    """
    planes, gains = macro.dac.codes(x) if whole else macro.dac.planes(x)
    if macro.input_phases == 1:
        return planes, gains
    return jnp.concatenate([jnp.maximum(planes, 0.0), jnp.maximum(-planes, 0.0)]), jnp.concatenate([gains, -gains])


def check_inputs(macro: AnalogMacro, x: Float[Array, "batch n_in"], name: str) -> None:
    """Raise DeviceError for negative inputs that an unsigned converter would cut off; traced ones are not looked at."""
    if macro.dac.code != "unsigned" or isinstance(x, Tracer):
        return
    negative = int((x < 0).sum())
    if negative:
        raise DeviceError(
            f"{name} holds {negative} negative values, down to {float(x.min()):g}, but dac.code = 'unsigned' drives "
            "nothing below zero: take dac.code = 'sign_magnitude', or shift the inputs"
        )


def frozen_dacs(
    macro: AnalogMacro, key: Key[Array, ""] | None, n_in: int, layer: Any, operator: Any
) -> Float[Array, "numbers n_in"] | None:
    """The standard normal numbers that make the converter of each word line; None where all are alike."""
    if key is None or macro.dac.numbers == 0:
        return None
    return normal(site_key(key, layer=layer, operator=operator, use="dac"), (macro.dac.numbers, n_in))


def applied_levels(
    macro: AnalogMacro,
    levels: Float[Array, "steps batch n_in"],
    frozen: Float[Array, "numbers n_in"] | None,
    rows: UInt32[Array, "batch 2"],
    key: Key[Array, ""] | None,
    layer: Any,
    operator: Any,
) -> Float[Array, "steps batch n_in"]:
    """What the word lines get when told to take `levels`: the errors of their converters, drawn for each row."""
    draws = None
    if macro.dac.noise is not None and key is not None:
        site = site_key(key, layer=layer, operator=operator, use="dac")
        draws = jnp.moveaxis(normal_rows(row_keys(site, rows), levels.shape[::2], macro.draws), 0, 1)
    return macro.dac.applied(levels, frozen, draws)
