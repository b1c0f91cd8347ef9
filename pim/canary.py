"""Small products whose jitted result is held against the same product done one operation at a time.

XLA fuses a whole jitted function into loops of its own making, and has got that wrong in silence: jaxlib 0.10.2
returns NaN, or one wrong row in 32,769, on sums that follow a matrix product on the CPU (jax-ml/jax issues 39103
and 39257). Emulating a crossbar is such sums and little else, so each kind that `pim` relies on has a canary here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

TOLERANCE = 1e-4
"""Largest difference that rounding explains, relative to the largest element: float32 keeps 7 digits."""


@dataclass(frozen=True)
class Canary:
    """A function, what to call it with, and another way to the same result."""

    name: str
    function: Callable[..., Array]
    arguments: tuple[np.ndarray, ...]
    reference: Callable[..., Any] | None = None  # None: the function itself, one operation at a time


@dataclass(frozen=True)
class Finding:
    """How far a canary's jitted result lies from its reference, relative to the largest element."""

    name: str
    difference: float

    @property
    def ok(self) -> bool:
        """Whether rounding explains the difference; NaN and infinity are never right."""
        return self.difference <= TOLERANCE


def examine(canary: Canary) -> Finding:
    """Run a canary both ways.

    >>> examine(Canary("sum", jnp.sum, (np.arange(10.0),))).ok
    True
    """
    jitted = np.asarray(jax.jit(canary.function)(*canary.arguments), np.float64)
    if canary.reference is None:
        with jax.disable_jit():
            expected = np.asarray(canary.function(*map(jnp.asarray, canary.arguments)), np.float64)
    else:
        expected = np.asarray(canary.reference(*canary.arguments), np.float64)
    if not (np.isfinite(jitted).all() and np.isfinite(expected).all()):
        return Finding(canary.name, float("inf"))
    return Finding(canary.name, float(np.abs(jitted - expected).max() / np.abs(expected).max()))


def rounded_sum(x: Float[Array, "rows inputs"]) -> Float[Array, ""]:
    """The sum of an array's converted outputs, all cells alike: NaN or about 1e33 under jaxlib 0.10.2."""
    return jnp.round(x @ jnp.ones((x.shape[1], 64)) / 5).sum()


def row_energies(x: Float[Array, "rows inputs"], w: Float[Array, "outputs inputs"]) -> Float[Array, "rows"]:
    """A product, square and sum for each row: one row of 32,769 wrong under jaxlib 0.10.2."""
    return jax.vmap(lambda row: jnp.sum((w @ row) ** 2))(x)


def tiled_product(
    x: Float[Array, "tiles batch rows"], g: Float[Array, "tiles rows columns"]
) -> Float[Array, "batch columns"]:
    """Partial sums over tiles, each rounded and clipped by a 6-bit converter before it is added."""

    def add_tile(total: Array, tile: tuple[Array, Array]) -> tuple[Array, None]:
        return total + jnp.clip(jnp.round(tile[0] @ tile[1] / 5), -32, 31), None

    return jax.lax.scan(add_tile, jnp.zeros((x.shape[1], g.shape[2])), (x, g))[0]


def bit_serial_product(x: Int[Array, "batch inputs"], w: Int[Array, "inputs outputs"]) -> Float[Array, "batch outputs"]:
    """Four input bits folded into the batch, each step converted, then shifted and added."""
    bits = (x[None] >> jnp.arange(4, dtype=x.dtype)[:, None, None]) & 1
    steps = jnp.einsum("kbi,io->kbo", bits.astype(jnp.float32), w.astype(jnp.float32))
    return jnp.einsum("k,kbo->bo", 2.0 ** jnp.arange(4), jnp.round(steps / 5))


def integer_product(x: Int[Array, "batch inputs"], w: Int[Array, "inputs outputs"]) -> Int[Array, "batch outputs"]:
    """8-bit codes with 32-bit sums."""
    return jax.lax.dot(x, w, preferred_element_type=jnp.int32)


def column_noise(x: Float[Array, "batch inputs"], g: Float[Array, "inputs outputs"]) -> Float[Array, "batch outputs"]:
    """The deviation of an array's output currents, from independent noise in each cell."""
    return jnp.sqrt((x**2) @ (g**2) + 1e-6) / (1 + jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True)))


def attention_gradient(
    q: Float[Array, "heads time width"],
    k: Float[Array, "heads time width"],
    v: Float[Array, "heads time width"],
) -> Float[Array, "3 heads time width"]:
    """The gradient of causal attention's squared output with respect to all of its inputs."""

    def loss(q: Array, k: Array, v: Array) -> Array:
        scores = jnp.einsum("htd,hsd->hts", q, k) / q.shape[-1] ** 0.5
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        return jnp.sum(jnp.einsum("hts,hsd->htd", jax.nn.softmax(scores, where=causal[None]), v) ** 2)

    return jnp.stack(jax.grad(loss, argnums=(0, 1, 2))(q, k, v))


def broadcast_reduction(x: Float[Array, "a b c"], w: Float[Array, "a b c d e"]) -> Float[Array, "a b d e"]:
    """A broadcast, product, sum and logarithm, the kind that crashes at rank 7 under jaxlib 0.10.2."""
    return jnp.log1p(jnp.sum(x[..., None, None] * w, axis=2) ** 2)


def dense_product(x: Float[Array, "batch inputs"], w: Float[Array, "inputs outputs"]) -> Float[Array, "batch outputs"]:
    """A plain product: an accelerator that multiplies float32 at fewer bits (TF32, bfloat16) shows here."""
    return x @ w


def canaries() -> tuple[Canary, ...]:
    """All of them, with fixed inputs.

    Whatever is rounded is a multiple of 1/5, an integer over 5, so that no last bit can decide a tie.
    """
    numbers = np.random.default_rng(0)

    def real(*shape: int) -> np.ndarray:
        return numbers.standard_normal(shape, np.float32)

    def whole(low: int, high: int, *shape: int, dtype: type = np.float32) -> np.ndarray:
        return numbers.integers(low, high, shape).astype(dtype)

    return (
        Canary("sum of rounded outputs", rounded_sum, (whole(-7, 10, 64, 128),)),
        Canary("energy of 32,769 rows", row_energies, (real(32_769, 3), real(3, 3))),
        Canary("tiled product with converters", tiled_product, (whole(0, 4, 5, 7, 64), whole(-3, 4, 5, 64, 96))),
        Canary(
            "bit-serial product",
            bit_serial_product,
            (whole(0, 16, 7, 130, dtype=np.int32), whole(-7, 8, 130, 65, dtype=np.int32)),
        ),
        Canary(
            "integer product",
            integer_product,
            (whole(-127, 128, 7, 130, dtype=np.int8), whole(-127, 128, 130, 65, dtype=np.int8)),
            reference=lambda x, w: x.astype(np.int64) @ w,
        ),
        Canary("noise of columns", column_noise, (real(33, 128), real(128, 65))),
        Canary("gradient of attention", attention_gradient, (real(4, 33, 16), real(4, 33, 16), real(4, 33, 16))),
        Canary("broadcast reduction", broadcast_reduction, (real(10, 4, 6), real(10, 4, 6, 9, 9))),
        Canary(
            "dense product in float32",
            dense_product,
            (real(33, 512), real(512, 65)),
            reference=lambda x, w: x.astype(np.float64) @ w,
        ),
    )
