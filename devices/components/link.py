"""Links and buses: what moving bytes takes, on a chip or off it."""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class Link:
    """A link that takes energy for each bit, and power for as long as it transfers or is held up.

    Published links state one or the other: HyperTransport 10.4 W at 25.6 GB/s whatever it carries (51 pJ a bit when
    full), PCIe 4.4 pJ a bit.
    """

    energy_per_bit: Float[Array, ""] = leaf("J", "energy of a bit", low=0)
    bytes_per_second: Float[Array, ""] = leaf("1/s", "bytes a second", low=1)
    power: Float[Array, ""] = leaf("W", "power whatever it carries", low=0, default=0.0)
    latency: Float[Array, ""] = leaf("s", "time until the first byte arrives", low=0, default=0.0)
    area: Float[Array, ""] = leaf("m^2", "area", low=0, default=0.0)

    def time(self, amount) -> Float[Array, "..."]:
        """Time (s) in which so many bytes are there."""
        return self.latency + amount / self.bytes_per_second

    def energy(self, amount) -> Float[Array, "..."]:
        """Energy (J) of moving so many bytes, the link held up meanwhile."""
        return 8.0 * amount * self.energy_per_bit + self.power * amount / self.bytes_per_second

    def energy_per_bit_full(self) -> Float[Array, "..."]:
        """Energy (J) of a bit when the link is always full."""
        return self.energy_per_bit + self.power / (8.0 * self.bytes_per_second)


@record
class Router:
    """A router of packets: energy a bit that passes, and power whether any does."""

    energy_per_bit: Float[Array, ""] = leaf("J", "energy of a bit that passes", low=0)
    static_power: Float[Array, ""] = leaf("W", "power without traffic", low=0, default=0.0)
    area: Float[Array, ""] = leaf("m^2", "area", low=0, default=0.0)
    hop_latency: Float[Array, ""] = leaf("s", "time of a hop", low=0, default=0.0)

    def energy(self, amount, hops=1.0) -> Float[Array, "..."]:
        """Energy (J) of so many bytes over so many hops."""
        return 8.0 * amount * hops * self.energy_per_bit

    def latency(self, hops=1.0) -> Float[Array, "..."]:
        """Time (s) of the first byte over so many hops."""
        return hops * self.hop_latency
