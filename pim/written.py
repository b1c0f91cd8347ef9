"""Keys and values written into a device: which of them are there, and the product of attention with them.

Keys are columns of the matrix that queries are multiplied by, [head_dim, tokens], values rows of the one that mixes
them, [tokens, head_dim]. Either way a token has one vector, which is written once and has a scale of its own.
"""

from dataclasses import replace
from typing import Any

import jax
from jaxtyping import Array, Float, Int32, Key, UInt32

from pim import written_arrays, written_codes
from pim.devices.arithmetic import FloatArithmetic
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.devices.record import leaf, part, record, static
from pim.mapping.formatted import Formatted
from pim.ranges import Ranges
from pim.written_vectors import Site


@record
class Written:
    """A matrix of activations, [batch, heads, n_in, n_out], that a device is given: keys or values of one layer."""

    device: str = static("name of the device in its system")
    content: Any = part("the matrix; None until it is known", default=None)
    layer: Int32[Array, "*layers"] | None = leaf("1", "index of its layer, for the keys of noise", default=None)
    operator: UInt32[Array, "*layers"] | None = leaf("1", "number of its operator's name, likewise", default=None)
    time: Float[Array, "*layers"] | None = leaf(
        "s", "since programming, when it is read; None: nothing ages", default=None
    )
    ranges: Ranges | None = part("converter ranges; None: full ranges", default=None)

    def of(self, matrix: Array) -> "Written":
        """The same for a matrix."""
        return replace(self, content=matrix)


def takes_activations(model: Any) -> bool:
    """Whether a device multiplies two activations in its own way: macros, whose cells they are written into, devices
    with floating-point arithmetic, and those with formats of keys and values.

    Integer codes of others would need a scale for each token, and those of a sum over tokens share one.
    """
    if isinstance(model, AnalogMacro | DigitalMacro | Formatted):
        return True
    return isinstance(getattr(model, "arithmetic", None), FloatArithmetic)


def product(
    written: Written,
    device: Any,
    operator: str,
    x: Float[Array, "batch heads rows n_in"],
    ids: UInt32[Array, "batch time 2"],
    key: Key[Array, ""] | None,
) -> Float[Array, "batch heads rows n_out"]:
    """A product of attention on a device.

    Args:
        written: keys or values of all heads.
        device: where they are.
        operator: "attention.qk" or "attention.pv".
        x: queries, or weights of the values; those of a group are rows one behind the other.
        ids: (document, position) of each query's token.
        key: of the chip; None: the nominal chip, read without noise.
    """
    if isinstance(device, AnalogMacro | DigitalMacro):
        assert written.layer is not None and written.operator is not None
        site = Site(key, written.layer, written.operator)
        if isinstance(device, DigitalMacro):
            return written_codes.product(device, operator, written.content, x, ids, site)
        return written_arrays.product(device, operator, written.content, x, ids, site, written.time, written.ranges)
    if isinstance(device, Formatted):
        return device.attend(operator, written.content, x, ids)
    # without formats for them, each pair on its own
    return jax.vmap(jax.vmap(lambda w, rows: device.multiply(device.hold(w, None), rows)))(written.content, x)
