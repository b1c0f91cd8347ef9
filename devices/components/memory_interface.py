"""Memory outside: what a byte from DRAM costs by the way that it comes."""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record, static


@record
class MemoryInterface:
    """DRAM seen from the chip: one energy a bit, all told, and a bandwidth.

    For DRAM by its commands see `pim.devices.dram`.
    """

    read_energy_per_bit: Float[Array, ""] = leaf("J", "energy of reading a bit, the array's part and the link's", low=0)
    write_energy_per_bit: Float[Array, ""] = leaf("J", "energy of writing a bit", low=0)
    bytes_per_second: Float[Array, ""] = leaf("1/s", "bytes a second", low=1)
    latency: Float[Array, ""] = leaf("s", "time until the first byte arrives", low=0, default=0.0)

    def read_energy(self, amount) -> Float[Array, "..."]:
        """Energy (J) of reading so many bytes."""
        return 8.0 * amount * self.read_energy_per_bit

    def write_energy(self, amount) -> Float[Array, "..."]:
        """Energy (J) of writing so many bytes."""
        return 8.0 * amount * self.write_energy_per_bit

    def time(self, amount) -> Float[Array, "..."]:
        """Time (s) in which so many bytes are moved."""
        return self.latency + amount / self.bytes_per_second


STOPS = {
    "bank": "at the bank: row and column alone",
    "bank_group": "at the group of banks: and the way to its multiplexer",
    "buffer": "on the logic die: and the way over the chip and the vias",
    "host": "on the processor: and the interposer",
}


@record
class DramPath:
    """The way of a bit from a stacked DRAM, stop by stop: a unit nearer to the cells saves the rest of the way.

    Source: AttAcc's ladder (Park et al., ASPLOS 2024), after M. O'Connor et al., MICRO 2017, whose total for HBM2 is
    3.9 pJ a bit.
    """

    activate: Float[Array, ""] = leaf("J", "opening and closing the row, a bit that is used of it", low=0)
    cell: Float[Array, ""] = leaf("J", "reading a bit of the open row", low=0)
    to_bank_group: Float[Array, ""] = leaf("J", "column decoder to the multiplexer of the bank group, a bit", low=0)
    to_chip: Float[Array, ""] = leaf("J", "on to the multiplexer of the chip, a bit", low=0)
    vias: Float[Array, ""] = leaf("J", "through the stack, a bit", low=0)
    interposer: Float[Array, ""] = leaf("J", "over the interposer, a bit", low=0)
    stop: str = static("where bits are used", choices=tuple(STOPS), meanings=STOPS, default="host")

    def energy_per_bit(self) -> Float[Array, "..."]:
        """Energy (J) of a bit up to the stop."""
        way = {
            "bank": (self.activate, self.cell),
            "bank_group": (self.to_bank_group,),
            "buffer": (self.to_chip, self.vias),
            "host": (self.interposer,),
        }
        passed = list(STOPS).index(self.stop) + 1
        return sum((leg for name in list(STOPS)[:passed] for leg in way[name]), 0.0 * self.cell)

    def read_energy(self, amount) -> Float[Array, "..."]:
        """Energy (J) of so many bytes up to the stop."""
        return 8.0 * amount * self.energy_per_bit()
