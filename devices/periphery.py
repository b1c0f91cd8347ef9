"""What stands around an array besides its converters: wires, sample-and-hold, shift-and-add, buffers, leakage."""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class Periphery:
    """Costs of the parts around the array; the laws that use them are in `pim.cost`."""

    wordline_capacitance: Float[Array, ""] = leaf("F", "word-line capacitance a cell it passes", low=0)
    bitline_capacitance: Float[Array, ""] = leaf("F", "bit-line capacitance a cell it passes", low=0)
    sample_hold_energy: Float[Array, ""] = leaf("J", "energy of holding one column's sum", low=0)
    sample_hold_area: Float[Array, ""] = leaf("m^2", "area of one sample-and-hold, one a column", low=0)
    shift_add_energy: Float[Array, ""] = leaf("J", "energy of one digital shift-and-add", low=0)
    shift_add_area: Float[Array, ""] = leaf("m^2", "area of one shift-and-add, one a converter", low=0)
    shift_add_latency: Float[Array, ""] = leaf("s", "time of one shift-and-add", low=0)
    buffer_bytes: Float[Array, ""] = leaf("1", "bytes of input and output buffer at each array", low=1)
    buffer_energy_per_byte: Float[Array, ""] = leaf("J", "energy of a buffer access a byte", low=0)
    buffer_area: Float[Array, ""] = leaf("m^2", "area of an array's buffer", low=0)
    input_bytes: Float[Array, ""] = leaf("1", "bytes of an input value in the buffer", low=0.25)
    output_bytes: Float[Array, ""] = leaf("1", "bytes of an output value in the buffer", low=0.25)
    leakage: Float[Array, ""] = leaf("W", "static power of an array with its periphery", low=0)
