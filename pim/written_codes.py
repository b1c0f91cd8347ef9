"""Attention on digital macros: keys and values as integer codes, each token's vector with a scale of its own.

The scale of a key multiplies the output; that of a value goes into the weight that multiplies it, in front of the
rounding to codes. Sums of codes are exact, as for matrices of weights.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, UInt32

from pim.devices.digital_macro import DigitalMacro
from pim.devices.number_format import integer_codes, integer_scale
from pim.devices.random import site_key
from pim.written_vectors import KEYS, Head, Site, by_head, cut_tokens

SUMS = 1 << 24
"""Sums that are made at once."""


def product(
    macro: DigitalMacro,
    operator: str,
    matrices: Float[Array, "batch heads n_in n_out"],
    x: Float[Array, "batch heads rows n_in"],
    ids: UInt32[Array, "batch time 2"],
    site: Site,
) -> Float[Array, "batch heads rows n_out"]:
    """The products with keys or values as the macro computes them; see `written.product`."""
    keys = operator == KEYS
    most = max(1, SUMS // (x.shape[2] * max(matrices.shape[2:])))
    return by_head(operator, matrices, x, ids, partial(_of_head, macro, keys, site), most)


def _of_head(macro: DigitalMacro, keys: bool, site: Site, head: Head) -> Float[Array, "rows n_out"]:
    scale = integer_scale(head.vectors, macro.weight_bits, "row")
    codes = _stored(macro, keys, head, integer_codes(head.vectors, scale, macro.weight_bits), site)
    x = head.x if keys else head.x * scale.T
    full = integer_scale(x, macro.input_bits, "row")
    sums = macro.sums(integer_codes(x, full, macro.input_bits), codes.T if keys else codes)
    y = sums.astype(jnp.float32) * full
    return macro.supplied(y * scale.T if keys else y)


def _stored(
    macro: DigitalMacro, keys: bool, head: Head, codes: Int8[Array, "tokens head_dim"], site: Site
) -> Int8[Array, "tokens head_dim"]:
    """What the cells return, array by array, each of as many tokens as it has columns or rows for."""
    if site.chip is None or macro.bit_errors is None:
        return codes
    cut = cut_tokens(codes, macro.outputs if keys else macro.rows)

    def of_array(codes: Int8[Array, "tokens head_dim"], number: Any) -> Int8[Array, "tokens head_dim"]:
        key = site.of_array(head, number)
        assert key is not None
        return macro.stored(codes, lambda use: site_key(key, layer=site.layer, operator=site.operator, use=use))

    found = jax.vmap(of_array)(cut, jnp.arange(len(cut), dtype=jnp.uint32))
    return found.reshape(-1, codes.shape[1])[: len(codes)]
