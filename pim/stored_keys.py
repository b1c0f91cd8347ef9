"""Attention whose keys and values wait in a store: what a query reads there, and the product with it.

A query reads each token as it is by then: its age is what the two are apart in the text, at the store's time a token.
A prompt is taken as if it had been written token by token, so that decoding gives what prefill gives. Which bits fail
is drawn for chip, layer, document, head and position alone.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt32

from pim import written
from pim.devices.kv_store import Cells, KeyValueStore
from pim.devices.random import array_key, site_key
from pim.devices.record import leaf, part, record, static
from pim.devices.retention_errors import RetentionErrors
from pim.llm_workloads.transformer import digital_matmul
from pim.written import Written
from pim.written_vectors import KEYS


@record
class Stored:
    """A matrix of activations, [batch, heads, n_in, n_out], that a store is given: keys or values of one layer."""

    store: str = static("name of the store in its system")
    behind: Written | None = part("the device that multiplies, if it has its own way with activations", default=None)
    content: Any = part("the matrix; None until it is known", default=None)
    layer: Int32[Array, "*layers"] | None = leaf("1", "index of its layer, for the keys of noise", default=None)
    operator: UInt32[Array, "*layers"] | None = leaf("1", "number of its operator's name, likewise", default=None)

    def of(self, matrix: Array) -> "Stored":
        """The same for a matrix."""
        return Stored(self.store, self.behind, matrix, self.layer, self.operator)


def product(
    stored: Stored,
    devices: Mapping[str, Any],
    operator: str,
    x: Float[Array, "batch heads rows n_in"],
    ids: UInt32[Array, "batch time 2"],
    key: Key[Array, ""] | None,
) -> Float[Array, "batch heads rows n_out"]:
    """A product of attention with what a store holds.

    Args:
        stored: keys or values of all heads.
        devices: the store and what multiplies, by name.
        operator: "attention.qk" or "attention.pv".
        x: queries, or weights of the values; those of a group are rows one behind the other.
        ids: (document, position) of each query's token.
        key: of the chip; None: the nominal chip, of which no bits fail.
    """
    store: KeyValueStore = devices[stored.store]
    vectors = _turned(operator, stored.content)
    held = jax.vmap(jax.vmap(store.write))(vectors)

    def multiply(read: Array, rows: Array, ids: Array) -> Array:
        matrices = _turned(operator, read)
        if stored.behind is None:
            return digital_matmul(operator, matrices, rows, ids)
        return written.product(stored.behind.of(matrices), devices[stored.behind.device], operator, rows, ids, key)

    lossy = isinstance(store.retention, RetentionErrors)
    if store.retention is None or (lossy and key is None):
        return multiply(jax.vmap(jax.vmap(store.values))(held), x, ids)
    cells = _cells(store, stored, key, ids[:, 0, 0], vectors.shape) if lossy and key is not None else None
    in_heads = jax.vmap(store.aged, in_axes=(0, 0, None))

    def of_token(given: tuple[Array, Array, Array]) -> Array:
        rows, age, named = given
        return multiply(jax.vmap(in_heads)(held, cells, age), rows, named[:, None])

    # The store is read anew for the queries of each token.
    batch, heads, tokens, _ = vectors.shape
    rows = jnp.moveaxis(x.reshape(batch, heads, -1, ids.shape[1], x.shape[-1]), 3, 0)
    ages = jnp.moveaxis(_ages(store, ids, tokens), 1, 0)
    found = jax.lax.map(of_token, (rows, ages, jnp.swapaxes(ids, 0, 1)))
    return jnp.moveaxis(found, 0, 3).reshape(batch, heads, x.shape[2], -1)


def _turned(operator: str, matrices: Array) -> Array:
    """Matrices as vectors of tokens, or the other way round."""
    return jnp.swapaxes(matrices, -1, -2) if operator == KEYS else matrices


def _ages(store: KeyValueStore, ids: UInt32[Array, "batch time 2"], tokens: int) -> Float[Array, "batch time tokens"]:
    """Age (s) of each token as each query reads it; those to come have none."""
    assert store.token_time is not None
    apart = ids[:, :, 1].astype(jnp.int32)[:, :, None] - jnp.arange(tokens, dtype=jnp.int32)[None, None, :]
    return jnp.maximum(apart, 0).astype(jnp.float32) * store.token_time


def _cells(
    store: KeyValueStore, stored: Stored, key: Key[Array, ""], documents: UInt32[Array, "batch"], shape: Any
) -> Cells:
    """The cells of all documents' heads."""
    _, heads, tokens, dim = shape

    def of_head(document: Array, head: Array) -> Cells:
        own = array_key(key, document=document, head=head, array=0)
        return store.cells(site_key(own, layer=stored.layer, operator=stored.operator, use="retention"), tokens, dim)

    each = jnp.arange(heads, dtype=jnp.uint32)
    return jax.vmap(lambda document: jax.vmap(lambda head: of_head(document, head))(each))(documents)
