"""Where random numbers are made and spent: keys by site, and the draws of the noise laws.

Every draw belongs to a *site* (chip, layer, operator, tile, use), and a read also to a row (document, position), so the
same seed gives the same draws whatever the batch, the order of the tiles or the number of chips. Threefry only: its
numbers do not depend on how calls are batched, those of `rbg` do.
"""

import math
import zlib
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32
from scipy.special import ndtri

from pim.devices import threefry
from pim.devices.errors import DeviceError

IMPLEMENTATION = "threefry2x32"
SMALL = 1 << 14
"""Words that are no matter to make round by round."""

DRAWS = {
    "float32": "as fine as float32 has them",
    "packed16": "2^16 values, two from 32 random bits: faster, but never beyond 4.32 standard deviations",
}
"""How normal numbers of reads are drawn, in words."""

USES = (
    "write",
    "relax",
    "fault",
    "read",
    "drift",
    "slow",
    "vary",
    "die",
    "adc",
    "dac",
    "wafer",
    "wear",
    "ladder",
    "bits",
    "retention",
)
CYCLE_USES = ("write", "relax", "slow")
"""What is drawn again each time that a chip is written (cycle to cycle); all else stays (device to device)."""


def root_key(seed: int) -> Key[Array, ""]:
    """The key at the root of a run.

    Raises DeviceError if JAX is set to number random words otherwise than `threefry.words` does.
    """
    if not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        raise DeviceError(
            "jax_threefry_partitionable is off, so that small arrays would be drawn otherwise than large ones: leave "
            'it at its default, jax.config.update("jax_threefry_partitionable", True)'
        )
    return jax.random.key(seed, impl=IMPLEMENTATION)


def name_id(name: str) -> int:
    """A number for a name that is the same on every machine (CRC-32), to be folded into a key."""
    return zlib.crc32(name.encode())


def chip_key(root: Key[Array, ""], chip) -> Key[Array, ""]:
    """The key of one chip: more chips never change earlier ones."""
    return _folded(root, chip)


def chip_keys(root: Key[Array, ""], chips: int) -> Key[Array, "chips"]:
    """The keys of many chips."""
    return jax.vmap(lambda chip: chip_key(root, chip))(jnp.arange(chips))


def is_many(key: Key[Array, "*chips"]) -> bool:
    """Whether these are the keys of many chips."""
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1


def cycle_key(chip: Key[Array, ""], cycle) -> Key[Array, ""]:
    """The key of what one writing of a chip draws: the first, cycle 0 (may be traced), has the chip's own."""
    later = _folded(chip, name_id("cycle"), cycle)
    return jnp.where(jnp.asarray(cycle) == 0, chip, later)


def site_key(chip: Key[Array, ""], *, layer: Any = 0, operator: Any = 0, tile: Any = 0, use: str) -> Key[Array, ""]:
    """The key of one site of a chip: every part is folded in, in a fixed order.

    `layer`, `operator` (see `name_id`) and `tile` may be traced integers. `use` is one of `USES`.
    """
    return _folded(chip, USES.index(use), layer, operator, tile)


def array_key(chip: Key[Array, ""], *, document: Any, head: Any, array: Any) -> Key[Array, ""]:
    """The key of one of the arrays into which the keys or the values of a document's head are written, in place of the
    chip's: sites and rows are folded into it in turn. All three numbers may be traced.
    """
    return _folded(chip, name_id("written"), document, head, array)


def choice_key(root: Key[Array, ""]) -> Key[Array, ""]:
    """The key by which a run chooses tokens: of no chip, so that the exact model and all chips choose alike."""
    return _folded(root, name_id("choice"))


def fold(key: Key[Array, ""], number) -> Key[Array, ""]:
    """A key of its own for each number (may be traced): independent draws within one site and use."""
    return _folded(key, number)


def row_keys(key: Key[Array, ""], rows: UInt32[Array, "rows 2"]) -> Key[Array, "rows"]:
    """One key a row, from its (document, position)."""
    return _folded(key, rows[:, 0], rows[:, 1])


def _folded(key: Key[Array, ""], *numbers: Any) -> Key[Array, "*keys"]:
    """`jax.random.fold_in`, one number after another; arrays of them make an array of keys."""
    found = threefry.folded(_words_of(key), jnp.stack([jnp.uint32(number) for number in numbers]))
    return jax.random.wrap_key_data(jnp.stack(found, axis=-1), impl=IMPLEMENTATION)


def _words_of(key: Key[Array, ""]) -> UInt32[Array, "2"]:
    words = jax.random.key_data(key)
    if words.shape[-1] != 2:
        raise DeviceError(
            f"a key of {jax.random.key_impl(key)} cannot be used, since its numbers depend on how calls are batched: "
            f"make it by jax.random.key(seed, impl={IMPLEMENTATION!r})"
        )
    return words


def normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal numbers, float32."""
    return _normal_of(_words(key, shape))


def mixed_normal(key: Key[Array, ""], shape: tuple[int, ...], weights: Float[Array, "parts"]) -> Float[Array, "..."]:
    """`normal(key, (*shape, parts)) @ weights`, without an array of all of them."""
    words, parts = _words_of(key), weights.shape[0]
    place = threefry.places(shape) * np.uint32(parts)
    assert math.prod(shape) * parts <= 1 << 32, "a key has 2^32 words"
    mixed = (weights[part] * _normal_of(threefry.words_at(words, place + np.uint32(part))) for part in range(parts))
    return sum(mixed, jnp.zeros(shape))


def packed_normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal numbers of 16 bits each, two from a word of random bits: the low halves, then the high ones.

    They are 2^16 quantiles (see `quantiles`), all as likely: twice as fast as `normal`, and never beyond 4.32.
    """
    return _packed_at(key, threefry.places(shape), math.prod(shape))


def normal_rows(keys: Key[Array, "rows"], shape: tuple[int, ...], draws: str = "float32") -> Float[Array, "rows ..."]:
    """Standard normal numbers of the given shape for each row's key; `draws` is one of `DRAWS`."""
    one = packed_normal if draws == "packed16" else normal
    return jax.vmap(lambda key: one(key, shape))(keys)


def normal_part(keys: Key[Array, "rows"], part: Any, of: tuple[int, int], draws: str) -> Float[Array, "rows numbers"]:
    """`normal_rows(keys, of, draws)[:, part]`, those alone; `part` may be traced."""
    place = jnp.asarray(part, jnp.uint32) * np.uint32(of[1]) + jnp.arange(of[1], dtype=jnp.uint32)
    if draws == "packed16":
        return jax.vmap(lambda key: _packed_at(key, place, math.prod(of)))(keys)
    return jax.vmap(lambda key: _normal_of(threefry.words_at(_words_of(key), place)))(keys)


def _words(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Random words: those of a small array are made once and kept, of a large one where they are used.

    What is broadcast over cells would otherwise be made anew for every cell.
    """
    if math.prod(shape) <= SMALL:
        return jax.random.bits(key, shape, jnp.uint32)
    return threefry.words(_words_of(key), shape)


def _normal_of(words: UInt32[Array, "*n"]) -> Float[Array, "*n"]:
    """As `jax.random.normal` makes them of random words: the inverse of the error function at numbers in (-1, 1)."""
    lowest = np.nextafter(np.float32(-1.0), np.float32(0.0))
    between = jnp.maximum(lowest, _unit(words) * (np.float32(1.0) - lowest) + lowest)
    return np.float32(math.sqrt(2.0)) * jax.lax.erf_inv(between)


def _packed_at(key: Key[Array, ""], place: UInt32[Array, "*n"], count: int) -> Float[Array, "*n"]:
    """Of `count` packed numbers those at some places. Each word is made twice: faster than keeping it."""
    half = np.uint32(-(-count // 2))
    low = place < half
    words = threefry.words_at(_words_of(key), jnp.where(low, place, place - half))
    return jnp.asarray(quantiles()).at[jnp.where(low, words & 0xFFFF, words >> 16)].get(mode="promise_in_bounds")


def _unit(words: UInt32[Array, "*n"]) -> Float[Array, "*n"]:
    """The upper 23 bits of words as numbers in [0, 1): those of a float between 1 and 2, less 1."""
    return jax.lax.bitcast_convert_type((words >> 9) | np.uint32(0x3F800000), jnp.float32) - 1.0


@cache
def quantiles() -> Float[np.ndarray, "65536"]:
    """The middles of 2^16 equally likely parts of the standard normal distribution, scaled to a variance of one."""
    middles = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
    return (middles / middles.std()).astype(np.float32)


def uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Uniform numbers in [0, 1), float32."""
    return _unit(_words(key, shape))


def fine_uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Uniform numbers in (0, 1], float32, in steps of 2^-32 near zero: `uniform` knows no event rarer than 2^-23."""
    return (threefry.words(_words_of(key), shape).astype(jnp.float32) + 0.5) * 2.0**-32


def gumbel_rows(keys: Key[Array, "rows"], count: int) -> Float[Array, "rows count"]:
    """Standard Gumbel numbers, float32, for each row's key."""
    return jax.vmap(lambda key: jax.random.gumbel(key, (count,), jnp.float32))(keys)


def student_t(key: Key[Array, ""], nu: Float[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Student-t numbers with `nu` degrees of freedom (scale 1, not unit variance), float32."""
    return jax.random.t(key, nu, shape, jnp.float32)
