"""What happens in a product on a chip: conversions that clip, codes that are used, noise by tile and by source."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, Int64, Key, UInt32

from pim import crossbar as engine
from pim.crossbar import Crossbar
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import is_many
from pim.mapping.tiles import cut_inputs, cut_rows
from pim.noise_sources import SOURCES, without
from pim.noise_split import NoiseSplit, decibels, split_noise
from pim.tile_programming import program_tiles

if TYPE_CHECKING:
    from pim.chip import Chip


@dataclass(frozen=True, repr=False)
class Conversions:
    """What the output converters did in a product.

    Attributes:
        clipped: share of the conversions of each column, by tile and slice, that were out of range by half a step or
            more (before gain, offset and INL of the converter).
        counts: how often each code came out, by slice, over all tiles and columns.
        codes: the codes that `counts` belongs to.
    """

    clipped: Float[np.ndarray, "tiles slices columns"]
    counts: Int64[np.ndarray, "slices codes"]
    codes: Int64[np.ndarray, "codes"]

    @property
    def clipped_share(self) -> float:
        """Share of all conversions."""
        return float(self.clipped.mean())

    def lines(self) -> list[str]:
        """The conversions in a few lines."""
        total, worst = int(self.counts.sum()), np.unravel_index(self.clipped.argmax(), self.clipped.shape)
        at = f"tile {worst[0]}, slice {worst[1]}, column {worst[2]}"
        where = f"; most, {self.clipped.max():.3g} of them, at {at}" if self.clipped.max() > 0 else ""
        used = (self.counts > 0).sum(axis=1)
        return [
            f"clipped       {self.clipped_share:.3g} of {total:,} conversions{where}",
            f"codes used    {', '.join(f'{count:,}' for count in used)} of {len(self.codes):,}, by slice",
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

    >>> found = chip.diagnose(x, key=jax.random.key(1))
    >>> found.conversions.clipped_share, found.split.worst
    """

    y: Float[Array, "*batch n_out"]
    conversions: Conversions | None
    ir_drop: float | None
    tile_snr: Float[np.ndarray, "tiles"]
    split: NoiseSplit

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
            "clipped_share": None if conversions is None else conversions.clipped_share,
            "clipped": None if conversions is None else conversions.clipped.tolist(),
            "codes": None if conversions is None else conversions.codes.tolist(),
            "counts": None if conversions is None else conversions.counts.tolist(),
        }

    def __str__(self) -> str:
        vectors = int(np.prod(self.y.shape[:-1], dtype=np.int64))
        tiles = self.tile_snr
        lines = [
            f"{vectors:,} vectors, {self.y.shape[-1]:,} outputs, {len(tiles)} row tiles: SNR {self.snr:.1f} dB",
            "",
        ]
        lines += ["conversions   none: sums are read exactly"] if self.conversions is None else self.conversions.lines()
        lines += [] if self.ir_drop is None else [f"IR drop       {self.ir_drop:.3g} of the product, from wires alone"]
        lines += [f"SNR of tiles  {tiles.min():.1f} to {tiles.max():.1f} dB, median {np.median(tiles):.1f} dB", ""]
        return "\n".join([*lines, str(self.split)])

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
    y = chip.matmul(x, key=key, rows=rows[:, 1].reshape(x.shape[:-1]))
    codes = 0 if macro.adc is None else int(macro.adc.codes())
    powers, clipped, counts = _tiles(chip.weights, chip.crossbar, macro, flat, rows, key, codes)
    found = None
    if macro.adc is not None:
        counts = np.asarray(counts, np.int64)
        found = Conversions(np.asarray(clipped, np.float64), counts, np.arange(-codes, codes + 1, dtype=np.int64))
    signal, noise = np.asarray(powers, np.float64).T
    split = split_noise(
        chip.weights, chip.crossbar, macro, flat, rows, chip=chip.key, read=key,
        time=chip.time, temperature=chip.temperature, cycle=chip.cycle,
    )  # fmt: skip
    snr = np.array([decibels(n, s) for s, n in zip(signal, noise, strict=True)])
    return Diagnosis(y, found, _ir_drop(chip.weights, chip.crossbar, macro, flat, rows, chip.key), snr, split)


@partial(jax.jit, static_argnames="codes")
def _tiles(weights, crossbar: Crossbar, macro: AnalogMacro, x, rows, key, codes: int):
    """Of each tile signal and noise, and clipped conversions; of all together the codes."""
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
        code, clipped = converted(macro, sums, feed.full_scale, feed.adcs)
        by_slice = jnp.moveaxis(code, 2, 0).reshape(macro.slices, -1) + codes
        counts = counts + jax.vmap(lambda c: jnp.bincount(c, length=2 * codes + 1))(by_slice)
        return counts, (powers, clipped.mean(axis=(0, 1)))

    start = jnp.zeros((macro.slices, 2 * codes + 1), jnp.int32)
    counts, (powers, clipped) = jax.lax.scan(one_tile, start, (product.feeds, *parts))
    return powers, clipped, counts


def converted(
    macro: AnalogMacro,
    sums: Float[Array, "steps batch slices columns"],
    full_scale: Float[Array, "slices #columns"],
    adcs: Float[Array, "numbers slices columns"] | None,
) -> tuple[Int32[Array, "steps batch slices columns"], Bool[Array, "steps batch slices columns"]]:
    """The codes of a tile's sums, and which of them were out of range by half a step or more."""
    assert macro.adc is not None
    adc = replace(macro.adc, reconstruct="level")
    full = full_scale[None, None]
    step = full / adc.codes()
    seen = sums if macro.environment is None else macro.environment.seen_by_adc(sums, step, macro.vdd)
    level = adc.convert(seen, full, None if adcs is None else adcs[:, None, None])
    return jnp.round(level / step).astype(jnp.int32), jnp.abs(seen) > full + 0.5 * step


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
