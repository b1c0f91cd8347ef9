"""The sums of a tile's columns as they arrive at the converters: cells, bit lines, and the noise of both."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from pim.arriving import Arriving, Noise, by_conversion
from pim.devices.bit_line import BitLine
from pim.devices.converters.span import Span
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import fold, normal_rows, row_keys
from pim.integer_sums import two_at_least
from pim.mapping.encoding import encoding_of, lines_meet, lines_of
from pim.shift_add import ShiftAdd
from pim.sum_grid import converts_lines


def exact_sums(
    macro: AnalogMacro, levels: Float[Array, "*batch rows"], weights: Float[Array, "driven_rows lines"]
) -> Float[Array, "*batch columns"]:
    """Sums without noise, in cells of full conductance and input, as bit lines hold them."""
    return _bent(macro, levels, weights, _product(macro.driven(levels), weights))


def read_sums(
    macro: AnalogMacro,
    levels: Float[Array, "steps batch rows"],
    weights: Float[Array, "driven_rows all_columns"],
    variance: Float[Array, "#rows #all_columns"] | None,
    span: Span,
    adding: ShiftAdd,
    site: Key[Array, ""],
    rows: UInt32[Array, "batch 2"],
) -> Arriving:
    """Sums that come to the converters, with the noise of cells, bit lines and converters, drawn for each row.

    Args:
        macro: the device.
        levels: of the word lines, a plane a step.
        weights: of the cells, slice by slice.
        variance: of the cells' reads, of each or the one of all; None: no noise.
        span: range of the converters, [parts, #columns], whose noise is told in LSB.
        adding: what is summed up in front of them.
        site: key of the tile's reads.
        rows: (document, position) of each input vector.
    """
    steps, batch, _ = levels.shape
    shape = steps, batch, macro.slices, -1
    flat = levels.reshape(steps * batch, -1)
    sums = _product(macro.driven(flat), weights)
    cells = None if variance is None else _cell_variance(macro, levels, variance)
    if macro.bends:  # cells and line are no longer one noise: the line bends what the cells' noise has moved
        if cells is not None:
            sums = _noisy(macro, sums.reshape(shape), cells, fold(site, 1), rows).reshape(sums.shape)
        sums, cells = _bent(macro, flat, weights, sums), None
    return with_noise(macro, sums.reshape(shape), cells, span, adding, site, rows)


def with_noise(
    macro: AnalogMacro,
    sums: Float[Array, "steps batch slices columns"],
    cells: Float[Array, "steps batch slices #columns"] | None,
    span: Span,
    adding: ShiftAdd,
    site: Key[Array, ""],
    rows: UInt32[Array, "batch 2"],
) -> Arriving:
    """Sums that come to the converters, with the noise of all that is on their way; `cells`: variance of the cells'."""
    lines, converters = _line_variance(macro), _converter_variance(macro, span)
    parts = [] if cells is None else [adding.added(cells, 2)]
    if lines is not None:
        parts.append(adding.added(jnp.broadcast_to(lines, (sums.shape[0], 1, macro.slices, 1)), 2))
    parts += [] if converters is None else [converters[None, None]]
    sums = adding.added(sums)
    noise = _noise(macro, sum(parts[1:], parts[0]), (sums.shape[0], sums.shape[2]), site, rows) if parts else None
    return Arriving(by_conversion(sums), noise)


def noisy_behind(macro: AnalogMacro) -> bool:
    """Whether bit lines or converters have noise."""
    return macro.line_variance() is not None or (macro.adc is not None and macro.adc.noise_variance() is not None)


def with_noise_behind(
    macro: AnalogMacro,
    exact: Arriving,
    span: Span,
    unit: Float[Array, ""],
    site: Key[Array, ""],
    rows: UInt32[Array, "batch 2"],
) -> Arriving:
    """Exact sums with the noise of bit lines and converters, drawn for each row; all in units of `unit` cells."""
    lines, converters = _line_variance(macro), _converter_variance(macro, span)
    if lines is None and converters is None:
        return exact
    variance = jnp.zeros((1, 1)) if converters is None else converters
    variance = variance if lines is None else variance + lines / unit**2
    times = len(exact.sums) // macro.slices
    return Arriving(exact.sums, _noise(macro, variance[None, None], (times, macro.slices), site, rows))


def _cell_variance(
    macro: AnalogMacro, levels: Float[Array, "steps batch rows"], variance: Float[Array, "#rows #all_columns"]
) -> Float[Array, "steps batch slices #columns"]:
    """Variance of the sums by the reads of the cells; where that of all cells is one, it is one in all columns."""
    steps, batch, rows = levels.shape
    exposure = macro.dac.exposure(levels.reshape(steps * batch, rows))
    if variance.shape == (1, 1):
        return jnp.repeat((exposure.sum(axis=1) * variance[0]).reshape(steps, batch, 1, 1), macro.slices, axis=2)
    return _product(exposure, variance).reshape(steps, batch, macro.slices, -1)


def _bent(
    macro: AnalogMacro,
    levels: Float[Array, "*batch rows"],
    weights: Float[Array, "driven_rows lines"],
    sums: Float[Array, "*batch lines"],
) -> Float[Array, "*batch columns"]:
    if not macro.bends:
        return sums
    assert macro.bit_line is not None
    line = macro.bit_line
    if line.needs_lines:
        return _bent_lines(macro, line, sums)
    if macro.encoding != "differential":
        raise DeviceError(
            f"this bit line bends the sums of either sign, but encoding = {macro.encoding!r} has both on one line: "
            "take encoding = 'differential', bit_line = LineClip, or bit_line = None"
        )
    magnitude = None
    if line.needs_magnitude:
        magnitude = _product(jnp.abs(macro.driven(levels)), jnp.abs(weights))
    return line.transfer(sums, magnitude)


def _bent_lines(
    macro: AnalogMacro, line: BitLine, sums: Float[Array, "*batch lines"]
) -> Float[Array, "*batch columns"]:
    """The signals of lines that are bent one by one, and then meet where they are a pair."""
    if not (lines_meet(macro) or converts_lines(macro)):
        raise DeviceError(
            f"this bit line cuts off the current of each line, and encoding = {macro.encoding!r} takes a reference off "
            "it before: take a differential encoding, 'offset' or 'offset_digital', or bit_line = None"
        )
    full = lines_of(macro).largest_signal(macro.cell.g_min, macro.cell.g_max)
    sums = full * line.transfer(sums / full, None)
    if not lines_meet(macro):
        return sums
    pairs = sums.reshape(*sums.shape[:-1], macro.slices, 2, -1)
    return (pairs[..., 0, :] - pairs[..., 1, :]).reshape(*sums.shape[:-1], -1)


def _line_variance(macro: AnalogMacro) -> Float[Array, ""] | None:
    """Variance that bit lines add to a sum; None: nothing."""
    line = macro.line_variance()
    if line is None:
        return None
    encoding = encoding_of(macro)  # of each line that makes up a signal, as of a cell on it
    return encoding.noise(jnp.full((encoding.cells_a_weight, 1, 1), line))[0, 0]


def _converter_variance(macro: AnalogMacro, span: Span) -> Float[Array, "parts #columns"] | None:
    """Variance that converters add to a sum; None: nothing."""
    noise = None if macro.adc is None else macro.adc.noise_variance()
    return None if noise is None or macro.adc is None else noise * macro.adc.step(span) ** 2


def _noisy(
    macro: AnalogMacro,
    sums: Float[Array, "times batch parts columns"],
    variance: Float[Array, "..."],
    site: Key[Array, ""],
    rows: UInt32[Array, "batch 2"],
) -> Float[Array, "times batch parts columns"]:
    """The sums with noise of that variance, which broadcasts over them."""
    draws = normal_rows(row_keys(site, rows), (sums.shape[0], *sums.shape[2:]), macro.draws)
    return sums + _root(variance) * jnp.moveaxis(draws, 0, 1)


def _noise(
    macro: AnalogMacro,
    variance: Float[Array, "#times #batch #parts #columns"],
    conversions: tuple[int, int],
    site: Key[Array, ""],
    rows: UInt32[Array, "batch 2"],
) -> Noise:
    """Noise of that variance, for times x parts conversions."""
    times, parts = conversions
    deviation = _root(variance)
    deviation = jnp.broadcast_to(deviation, (times, deviation.shape[1], parts, deviation.shape[3]))
    return Noise(by_conversion(deviation), row_keys(site, rows), macro.draws)


def _product(
    levels: Float[Array, "inputs rows"], cells: Float[Array, "rows columns"]
) -> Float[Array, "inputs columns"]:
    """A tile's sums in full float32, on accelerators too."""
    return jnp.matmul(two_at_least(levels), cells, precision=jax.lax.Precision.HIGHEST)[: levels.shape[0]]


def _root(variance: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Square root with a zero gradient at zero."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
