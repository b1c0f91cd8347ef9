"""What happens in a product on a chip: conversions that clip, codes that are used, noise by tile and by source."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, Int64, Key, UInt32

from pim import crossbar as engine
from pim.arriving import Arriving
from pim.crossbar import Crossbar
from pim.devices.converters.span import Span
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import is_many
from pim.formulation import Formulation
from pim.mapping.tiles import cut_inputs, cut_rows
from pim.noise_sources import SOURCES, without
from pim.noise_split import NoiseSplit, as_cells, decibels, split_noise
from pim.tile_programming import program_tiles

if TYPE_CHECKING:
    from pim.chip import Chip


@dataclass(frozen=True, repr=False)
class Conversions:
    """What the output converters did in a product, by part of the weights: a slice, or all where they are added first.

    Attributes:
        clipped: share of the conversions of each column, by tile and part, that were out of range by half a step or
            more (before gain, offset and INL of the converter).
        counts: how often each code came out, by part, over all tiles and columns.
        codes: the codes that `counts` belongs to.
    """

    clipped: Float[np.ndarray, "tiles parts columns"]
    counts: Int64[np.ndarray, "parts codes"]
    codes: Int64[np.ndarray, "codes"]

    @property
    def clipped_share(self) -> float:
        """Share of all conversions."""
        return float(self.clipped.mean())

    def lines(self) -> list[str]:
        """The conversions in a few lines."""
        total, worst = int(self.counts.sum()), np.unravel_index(self.clipped.argmax(), self.clipped.shape)
        at = f"tile {worst[0]}, part {worst[1]}, column {worst[2]}"
        where = f"; most, {self.clipped.max():.3g} of them, at {at}" if self.clipped.max() > 0 else ""
        used = (self.counts > 0).sum(axis=1)
        return [
            f"clipped        {self.clipped_share:.3g} of {total:,} conversions{where}",
            f"codes used     {', '.join(f'{count:,}' for count in used)} of {len(self.codes):,}",
        ]


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Where the errors of a product come from; prints as a table.

    Attributes:
        y: the product, as `Chip.matmul` gives it.
        conversions: of the output converters; None where sums are read exactly.
        ir_drop: root mean square of what wires alone change in the product, over that of the product; None without
            wires.
        tile_snr: signal over noise (dB) of what each row tile adds to the product, against its part of the exact one.
        split: noise of the whole product by source.
        formulation: how `y` was computed.

    >>> found = chip.diagnose(x, key=jax.random.key(1))
    >>> found.conversions.clipped_share, found.split.worst
    """

    y: Float[Array, "*batch n_out"]
    conversions: Conversions | None
    ir_drop: float | None
    tile_snr: Float[np.ndarray, "tiles"]
    split: NoiseSplit
    formulation: Formulation

    @property
    def snr(self) -> float:
        """Signal over noise (dB) of the whole product."""
        return self.split.total_snr

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; without the product itself."""
        conversions = self.conversions
        return {
            "snr_db": self.snr,
            "split": self.split.to_dict(),
            "tile_snr_db": self.tile_snr.tolist(),
            "ir_drop": self.ir_drop,
            "formulation": str(self.formulation),
            "clipped_share": None if conversions is None else conversions.clipped_share,
            "clipped": None if conversions is None else conversions.clipped.tolist(),
            "codes": None if conversions is None else conversions.codes.tolist(),
            "counts": None if conversions is None else conversions.counts.tolist(),
        }

    def __str__(self) -> str:
        vectors, tiles = int(np.prod(self.y.shape[:-1], dtype=np.int64)), self.tile_snr
        none = ["conversions    none: sums are read exactly"]
        lines = [
            f"{vectors:,} vectors, {self.y.shape[-1]:,} outputs, {len(tiles)} row tiles: SNR {self.snr:.1f} dB",
            "",
            f"computed as    {self.formulation}",
            *(none if self.conversions is None else self.conversions.lines()),
            f"SNR of tiles   {tiles.min():.1f} to {tiles.max():.1f} dB, median {np.median(tiles):.1f} dB",
        ]
        if self.ir_drop is not None:
            lines.append(f"IR drop        {self.ir_drop:.3g} of the product, from wires alone")
        return "\n".join([*lines, "", str(self.split)])

    __repr__ = __str__


def diagnose(
    chip: "Chip",
    x: Float[Array, "*batch n_in"],
    flat: Float[Array, "vectors n_in"],
    rows: UInt32[Array, "vectors 2"],
    key: Key[Array, ""] | None,
) -> Diagnosis:
    """What happens in the product of a chip; see `Chip.diagnose`. `flat` are the inputs `x`, one a row."""
    macro = chip.model
    if not isinstance(macro, AnalogMacro) or chip.crossbar is None:
        raise DeviceError("this device has no analog cells: there is nothing to diagnose in its product")
    if is_many(chip.key):
        raise DeviceError("a diagnosis is of one chip: take chips[0].diagnose(x, key=...)")
    y = chip.matmul(x, key=key, rows=rows[:, 1].astype(jnp.int32).reshape(x.shape[:-1]))
    codes = np.zeros(0, np.int64)
    if macro.adc is not None:
        low, high, _ = macro.adc.limits()
        codes = np.arange(int(low), int(high) + 1, dtype=np.int64)
    cells = as_cells(chip.weights, chip.crossbar, macro, chip.key, chip.time, chip.temperature, chip.cycle)
    powers, clipped, counts = _tiles(chip.weights, cells, macro, flat, rows, key, len(codes))
    found = None
    if macro.adc is not None:
        found = Conversions(np.asarray(clipped, np.float64), np.asarray(counts, np.int64), codes)
    signal, noise = np.asarray(powers, np.float64).T
    split = split_noise(
        chip.weights, cells, macro, flat, rows, chip=chip.key, read=key,
        time=chip.time, temperature=chip.temperature, cycle=chip.cycle,
    )  # fmt: skip
    snr = np.array([decibels(n, s) for s, n in zip(signal, noise, strict=True)])
    dropped = _ir_drop(chip.weights, cells, macro, flat, rows, chip.key)
    return Diagnosis(y, found, dropped, snr, split, chip.crossbar.formulation)


@partial(jax.jit, static_argnames="codes")
def _tiles(weights, crossbar: Crossbar, macro: AnalogMacro, x, rows, key, codes: int):
    """Of each tile signal and noise, and clipped conversions; of all together the `codes`, by part of the weight."""
    product = engine.by_tiles(crossbar, macro, x, rows, key)
    parts = cut_inputs(x, macro.rows_at_once), cut_rows(weights, macro.rows_at_once)

    def one_tile(counts, tile):
        feed, u, w = tile
        sums = product.sums(feed)
        exact = jnp.matmul(u, w, precision=jax.lax.Precision.HIGHEST)
        error = product.scaled(product.convert(feed, sums)) - exact
        powers = jnp.stack([jnp.mean(exact**2), jnp.mean(error**2)])
        if macro.adc is None:
            return counts, (powers, None)
        code, clipped = converted(macro, by_part(sums, macro), feed.span, feed.adcs)
        of_parts = jnp.moveaxis(code, 1, 0).reshape(code.shape[1], -1)
        counts = counts + jax.vmap(lambda c: jnp.bincount(c, length=codes))(of_parts)
        return counts, (powers, clipped.mean(axis=(0, 2)))

    start = jnp.zeros((macro.converted_slices, codes), jnp.int32)
    counts, (powers, clipped) = jax.lax.scan(one_tile, start, (product.feeds, *parts))
    return powers, clipped, counts


def by_part(arriving: Arriving, macro: AnalogMacro) -> Float[Array, "times parts batch columns"]:
    """What comes to the converters, for each time that they convert and each part of a weight."""
    found = arriving.noisy()
    return found.reshape(-1, macro.converted_slices, *found.shape[1:])


def converted(
    macro: AnalogMacro,
    sums: Float[Array, "times parts batch columns"],
    span: Span,
    adcs: Float[Array, "numbers parts columns"] | None,
) -> tuple[Int32[Array, "times parts batch columns"], Bool[Array, "times parts batch columns"]]:
    """The codes of a tile's sums, the lowest as 0, and which of them were out of range by half a step or more."""
    assert macro.adc is not None
    adc = replace(macro.adc, reconstruct="level")
    own = Span(*(end[None, :, None] for end in span))
    step = adc.step(own)
    seen = sums if macro.environment is None else macro.environment.seen_by_adc(sums, step, macro.vdd)
    level = adc.convert(seen, own, None if adcs is None else adcs[:, None, :, None])
    low, high, _ = adc.limits()
    lowest = own.low if adc.code == "offset" else low * step
    highest = lowest + (high - low) * step
    clipped = (seen < lowest - 0.5 * step) | (seen > highest + 0.5 * step)
    return jnp.round((level - lowest) / step).astype(jnp.int32), clipped


def _ir_drop(weights, crossbar, macro: AnalogMacro, x, rows, key) -> float | None:
    """What wires alone change in the product of cells that are as they were told to be."""
    if macro.wires is None:
        return None
    others = [name for name in SOURCES if name not in ("quantisation", "wires")]
    wired, ideal = (without(macro, [*others, *more]) for more in ((), ("wires",)))
    with_wires, without_wires = (_noiseless(weights, crossbar, m, x, rows, key) for m in (wired, ideal))
    return float(jnp.linalg.norm(with_wires - without_wires) / jnp.linalg.norm(without_wires))


@jax.jit
def _noiseless(weights, crossbar, macro, x, rows, key):
    programmed = program_tiles(weights, macro, key, None, ranges=crossbar.ranges)
    return engine.matmul(programmed, macro, x, rows, None)
