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
    """The key at the root of a run."""
    return jax.random.key(seed, impl="threefry2x32")


def name_id(name: str) -> int:
    """A number for a name that is the same on every machine (CRC-32), to be folded into a key."""
    return zlib.crc32(name.encode())


def chip_key(root: Key[Array, ""], chip) -> Key[Array, ""]:
    """The key of one chip: more chips never change earlier ones."""
    return jax.random.fold_in(root, chip)


def chip_keys(root: Key[Array, ""], chips: int) -> Key[Array, "chips"]:
    """The keys of many chips."""
    return jax.vmap(lambda chip: chip_key(root, chip))(jnp.arange(chips))


def is_many(key: Key[Array, "*chips"]) -> bool:
    """Whether these are the keys of many chips."""
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1


def cycle_key(chip: Key[Array, ""], cycle) -> Key[Array, ""]:
    """The key of what one writing of a chip draws: the first, cycle 0 (may be traced), has the chip's own."""
    later = jax.random.fold_in(jax.random.fold_in(chip, name_id("cycle")), cycle)
    return jnp.where(jnp.asarray(cycle) == 0, chip, later)


def site_key(chip: Key[Array, ""], *, layer: Any = 0, operator: Any = 0, tile: Any = 0, use: str) -> Key[Array, ""]:
    """The key of one site of a chip: every part is folded in, in a fixed order.

    `layer`, `operator` (see `name_id`) and `tile` may be traced integers. `use` is one of `USES`.
    """
    key = jax.random.fold_in(chip, USES.index(use))
    for number in (layer, operator, tile):
        key = jax.random.fold_in(key, number)
    return key


def choice_key(root: Key[Array, ""]) -> Key[Array, ""]:
    """The key by which a run chooses tokens: of no chip, so that the exact model and all chips choose alike."""
    return jax.random.fold_in(root, name_id("choice"))


def fold(key: Key[Array, ""], number) -> Key[Array, ""]:
    """A key of its own for each number (may be traced): independent draws within one site and use."""
    return jax.random.fold_in(key, number)


def row_keys(key: Key[Array, ""], rows: UInt32[Array, "rows 2"]) -> Key[Array, "rows"]:
    """One key a row, from its (document, position)."""
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, row[0]), row[1]))(rows)


def normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal numbers, float32."""
    return jax.random.normal(key, shape, jnp.float32)


def normal_rows(keys: Key[Array, "rows"], shape: tuple[int, ...], draws: str = "float32") -> Float[Array, "rows ..."]:
    """Standard normal numbers of the given shape for each row's key; `draws` is one of `DRAWS`."""
    one = packed_normal if draws == "packed16" else normal
    return jax.vmap(lambda key: one(key, shape))(keys)


def packed_normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal numbers of 16 bits each, two from a word of random bits: the low halves, then the high ones.

    They are 2^16 quantiles (see `quantiles`), all as likely: 2.5 times cheaper than `normal`, and never beyond 4.32.
    """
    count = math.prod(shape)
    words = jax.random.bits(key, (-(-count // 2),), jnp.uint32)
    halves = jnp.concatenate([words & 0xFFFF, words >> 16])[:count]
    return jnp.asarray(quantiles()).at[halves].get(mode="promise_in_bounds").reshape(shape)


@cache
def quantiles() -> Float[np.ndarray, "65536"]:
    """The middles of 2^16 equally likely parts of the standard normal distribution, scaled to a variance of one."""
    middles = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
    return (middles / middles.std()).astype(np.float32)


def uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Uniform numbers in [0, 1), float32."""
    return jax.random.uniform(key, shape, jnp.float32)


def fine_uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Uniform numbers in (0, 1], float32, in steps of 2^-32 near zero: `uniform` knows no event rarer than 2^-23."""
    return (jax.random.bits(key, shape, jnp.uint32).astype(jnp.float32) + 0.5) * 2.0**-32


def gumbel_rows(keys: Key[Array, "rows"], count: int) -> Float[Array, "rows count"]:
    """Standard Gumbel numbers, float32, for each row's key."""
    return jax.vmap(lambda key: jax.random.gumbel(key, (count,), jnp.float32))(keys)


def student_t(key: Key[Array, ""], nu: Float[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Student-t numbers with `nu` degrees of freedom (scale 1, not unit variance), float32."""
    return jax.random.t(key, nu, shape, jnp.float32)
