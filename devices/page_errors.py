"""Bits of a flash page that are read wrong, and what a light code on the die leaves of them."""

from math import comb

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

from pim.devices.number_format import FLOATS
from pim.devices.random import fine_uniform, fold
from pim.devices.record import leaf, record, static
from pim.devices.stored_words import WORD_BITS, code_values, finite_words, float_values

OUTLIERS = 64
"""What is folded into the key of a matrix for the copies of its outliers, beyond the numbers of bits."""


@record
class PageErrors:
    """A raw bit error rate, and the outliers of each page that a compute core on the die protects.

    A full code (BCH, LDPC) does not fit a compute core. Cambricon-LLM (Yu et al., MICRO 2024) keeps copies of the few
    largest weights of a page in its spare bytes, each bit of which is the majority of its copies, and takes any other
    weight for zero that reads larger than the least of them: a high bit that has turned over. What is left are small
    errors. Addresses and threshold of the outliers have codes and copies of their own and are taken to be right.

    One uniform number a bit, fixed by the chip, decides: what fails at one rate fails at every higher one.

    >>> pim.replace(pim.preset("flash-cambricon-l"), {"errors.rate": 1e-3})
    """

    rate: Float[Array, ""] = leaf("1", "share of stored bits that are read wrong", low=0, high=0.5)
    protection: str = static(
        "what the die does about them",
        choices=("none", "outliers"),
        meanings={
            "none": "nothing",
            "outliers": "the largest weights of a page have copies, and others that read larger are taken for zero",
        },
        default="none",
    )
    outlier_share: Float[Array, ""] = leaf(
        "1", "share of a page's weights that are protected", low=0, high=1, default=0
    )
    copies: int = static(
        "words of an outlier, itself and its copies, of which the majority counts", choices=(1, 3, 5, 7), default=3
    )

    def majority_rate(self) -> Float[Array, ""]:
        """The share of an outlier's bits that are wrong in most of its copies."""
        n, p = self.copies, self.rate
        wrong = range((n + 1) // 2, n + 1)
        return sum((comb(n, j) * p**j * (1 - p) ** (n - j) for j in wrong), jnp.float32(0.0))

    def flip(
        self, words: UInt32[Array, "n_in n_out"], name: str, key: Key[Array, ""], page: tuple[int, int]
    ) -> UInt32[Array, "n_in n_out"]:
        """The words of a matrix as a core gets them.

        Args:
            words: what was written, in the lowest bits; see `stored_words`.
            name: their format, "fp16", "int8" and so on.
            key: of the chip and the matrix, use "bits".
            page: inputs and outputs of the weights of a page; pages that a matrix does not fill hold zeros beside it.
        """
        bits = WORD_BITS[name]
        read = words ^ _failing(key, words.shape, bits, self.rate)
        if self.protection == "outliers":
            size = magnitude(words, name)
            kept, least = _outliers(size, self.outlier_share, page)
            voted = words ^ _failing(fold(key, OUTLIERS), words.shape, bits, self.majority_rate())
            read = jnp.where(kept, voted, jnp.where(magnitude(read, name) > least, jnp.uint32(0), read))
        return jnp.where(read == words, words, finite_words(read, name))


def magnitude(words: UInt32[Array, "*n"], name: str) -> Float[Array, "*n"]:
    """Magnitudes of the numbers that words stand for; codes count in steps, what is no number as infinite."""
    values = float_values(words, name) if name in FLOATS else code_values(words, name).astype(jnp.float32)
    return jnp.where(jnp.isnan(values), jnp.inf, jnp.abs(values))


def _failing(key: Key[Array, ""], shape: tuple[int, ...], bits: int, rate) -> UInt32[Array, "..."]:
    """Words with a one for each bit that fails; rates below 2^-32 are zero here."""

    def add(words, bit):
        return words | (fine_uniform(fold(key, bit), shape) < rate).astype(jnp.uint32) << bit, None

    return jax.lax.scan(add, jnp.zeros(shape, jnp.uint32), jnp.arange(bits, dtype=jnp.uint32))[0]


def _outliers(
    size: Float[Array, "n_in n_out"], share: Float[Array, ""], page: tuple[int, int]
) -> tuple[Bool[Array, "n_in n_out"], Float[Array, "n_in n_out"]]:
    """Which weights are protected, the first of equals, and the least magnitude among those of each weight's page."""
    pages = _by_page(size, page)
    count = jnp.floor(share * pages.shape[1])
    rank = jnp.argsort(jnp.argsort(-pages, axis=1, stable=True), axis=1)
    kept = rank < count
    least = jnp.min(jnp.where(kept, pages, jnp.inf), axis=1, keepdims=True)
    spread = lambda figures: _from_pages(jnp.broadcast_to(figures, pages.shape), page, size.shape)
    return spread(kept), spread(least)


def _by_page(figures: Array, page: tuple[int, int]) -> Array:
    """The weights of each page, [pages, weights], filled up with zeros."""
    (n_in, n_out), (inputs, outputs) = figures.shape, page
    filled = jnp.pad(figures, ((0, -n_in % inputs), (0, -n_out % outputs)))
    tiles = filled.reshape(filled.shape[0] // inputs, inputs, filled.shape[1] // outputs, outputs)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, inputs * outputs)


def _from_pages(pages: Array, page: tuple[int, int], shape: tuple[int, ...]) -> Array:
    """The matrix that pages hold."""
    (n_in, n_out), (inputs, outputs) = shape, page
    down, across = -(-n_in // inputs), -(-n_out // outputs)
    tiles = pages.reshape(down, across, inputs, outputs).transpose(0, 2, 1, 3)
    return tiles.reshape(down * inputs, across * outputs)[:n_in, :n_out]
