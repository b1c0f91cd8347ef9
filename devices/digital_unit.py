"""A digital unit: exact arithmetic beside the arrays."""

from jaxtyping import Array, Float

from pim.devices.buffer import Memory
from pim.devices.components.special_functions import SpecialFunctions
from pim.devices.record import leaf, part, record


@record
class DigitalUnit:
    """An exact digital unit for dynamic products (attention) and vector work, with a cost.

    Products and vector operations run at a rate each; a product waits for its operands where the buffer, which
    also holds keys, values and weights, is slower than the multipliers. A matrix is read once for every `reuse`
    vectors, whose sums stay in registers meanwhile.
    """

    energy_per_mac: Float[Array, ""] = leaf("J", "energy of a multiply-accumulate, operands at hand", low=0)
    energy_per_op: Float[Array, ""] = leaf("J", "energy of one vector operation (norms, softmax, activation)", low=0)
    bytes_per_operand: Float[Array, ""] = leaf("1", "bytes of an operand", low=0.125)
    macs_per_second: Float[Array, ""] = leaf("1/s", "multiply-accumulates a second", low=1)
    ops_per_second: Float[Array, ""] = leaf("1/s", "vector operations a second", low=1)
    bytes_per_second: Float[Array, ""] = leaf("1/s", "bytes a second that the buffer gives or takes", low=1)
    reuse: Float[Array, ""] = leaf("1", "input vectors that share one reading of a matrix", low=1)
    area: Float[Array, ""] = leaf("m^2", "area of the arithmetic", low=0)
    leakage: Float[Array, ""] = leaf("W", "static power of the arithmetic", low=0)
    buffer: Memory = part("where operands, keys and values lie")
    functions: SpecialFunctions | None = part(
        "what does the vector work, function by function; absent: energy_per_op and ops_per_second for each operation",
        default=None,
    )
