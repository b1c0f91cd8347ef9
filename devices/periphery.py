"""What stands around an array besides its converters: lines, sample-and-hold, shift-and-add, buffer, bus."""

from jaxtyping import Array, Float

from pim.devices.buffer import Memory
from pim.devices.components.wires import HTree
from pim.devices.record import leaf, part, record


@record
class Periphery:
    """Costs of the parts around the array; the laws that use them are in `pim.costs.macro_cost`.

    Three lines pass a cell: the word line that brings the input, the select line that opens its transistor, and
    the bit line that gathers its current. Selecting is not free: in NeuRRAM it is a third of the energy. Of a read:

        E_lines = cells (wordline_capacitance V_line^2 + select_capacitance select_voltage^2 active
                         + bitline_capacitance V_line^2)
        E_amplifiers = sums amplifier_power (t_read + settle + t_convert)      E_hold = sums sample_hold_energy
        E_add = conversions shift_add_energy      t = settle + t_read + t_convert + shift_add_latency
        E_bus = bus_energy_per_byte (inputs input_bytes + outputs output_bytes)
        P_leakage = leakage_density (areas of converters, amplifiers, sample_hold_area, shift_add_area)
    """

    wordline_capacitance: Float[Array, ""] = leaf("F", "word-line capacitance a cell it passes", low=0)
    select_capacitance: Float[Array, ""] = leaf("F", "select-line capacitance a cell it passes", low=0)
    select_voltage: Float[Array, ""] = leaf("V", "swing of a select line", low=0, high=10)
    bitline_capacitance: Float[Array, ""] = leaf("F", "bit-line capacitance a cell it passes", low=0)
    settle: Float[Array, ""] = leaf("s", "time for which input converters and lines settle before a read", low=0)
    sample_hold_energy: Float[Array, ""] = leaf("J", "energy of holding one column's sum", low=0)
    sample_hold_area: Float[Array, ""] = leaf("m^2", "area of one sample-and-hold, one a converted column", low=0)
    shift_add_energy: Float[Array, ""] = leaf("J", "energy of one digital shift-and-add", low=0)
    shift_add_area: Float[Array, ""] = leaf("m^2", "area of one shift-and-add, one a converter", low=0)
    shift_add_latency: Float[Array, ""] = leaf("s", "time of one shift-and-add", low=0)
    input_bytes: Float[Array, ""] = leaf("1", "bytes of an input value in the buffer", low=0.125)
    output_bytes: Float[Array, ""] = leaf("1", "bytes of a partial sum in the buffer", low=0.125)
    bus_energy_per_byte: Float[Array, ""] = leaf("J", "energy of moving a byte to or from an array's buffer", low=0)
    bus_area: Float[Array, ""] = leaf("m^2", "an array's share of the bus", low=0)
    leakage_density: Float[Array, ""] = leaf(
        "W/m^2", "static power an area of output converters, sample-and-holds and shift-and-adds", low=0
    )
    amplifier_power: Float[Array, ""] = leaf(
        "W",
        "power of what holds bit lines or integrates currents, one a sum, while they are read and converted",
        low=0,
        default=0.0,
    )
    amplifier_area: Float[Array, ""] = leaf("m^2", "area of that, one a sum", low=0, default=0.0)
    buffer: Memory | None = part(
        "input and output buffer at each array; absent: none, or registers of the hierarchy", default=None
    )
    htree: HTree | None = part(
        "wires to and from the arrays, by their length, in place of bus_energy_per_byte; absent: that", default=None
    )
