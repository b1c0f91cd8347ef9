"""Technology scaling, 180 to 7 nm: what logic of one node and supply takes at another, in area, energy and delay.

    energy = a_2 V^2 + a_1 V + a_0        delay = b_3 V^3 + b_2 V^2 + b_1 V + b_0        (only ratios count)

Between the tabulated nodes (28 nm, say) the logarithm of a figure is interpolated in the logarithm of the node. It is
for logic: the capacitors of a converter, which noise sizes, the current of a resistive cell and SRAM below 7 nm do not
follow it.

Source: A. Stillmaker and B. Baas, Integration 58, 74-81 (2017), as tabulated by wromaszkan/nodeScale.
"""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.errors import DeviceError
from pim.devices.supply import SupplyPolynomial

NODES = np.array([7, 10, 14, 16, 20, 32, 45, 65, 90, 130, 180]) * 1e-9
"""m"""
AREAS = np.array([0.0032, 0.0055, 0.0093, 0.010, 0.011, 0.025, 0.053, 0.08, 0.15, 0.34, 1.0])
"""Area of logic at each node, over that at 180 nm."""

KINDS = {
    "HP": "high performance at every node that tells the two apart (45 nm and finer)",
    "LP": "low power at every node that tells the two apart; its delays are tabulated at 45 and 32 nm only",
    "LP-HP": "low power at 45 and 32 nm, high performance below (the choice of hwcomponents)",
}

ENERGIES = {
    "180": (0, 24.64, -17.98),
    "130": (7.171, -6.709, 2.904),
    "90": (4.762, -4.781, 2.092),
    "65": (3.755, -4.398, 1.975),
    "45HP": (1.018, -0.3107, 0.1539),
    "32HP": (0.8367, -0.4341, 0.1701),
    "20HP": (0.373, -0.1582, 0.04104),
    "16HP": (0.2958, -0.1241, 0.03024),
    "14HP": (0.2363, -0.09675, 0.02239),
    "10HP": (0.2068, -0.09311, 0.02375),
    "7HP": (0.1776, -0.09097, 0.02447),
    "45LP": (1.103, -0.362, 0.2767),
    "32LP": (0.9559, -0.7823, 0.471),
    "20LP": (0.2632, -0.14, 0.06841),
    "16LP": (0.2139, -0.1187, 0.05639),
    "14LP": (0.1556, -0.06472, 0.03066),
    "10LP": (0.1261, -0.0518, 0.02769),
    "7LP": (0.09365, -0.03409, 0.02043),
}
"""a_2, a_1, a_0."""
DELAYS = {
    "180": (0, 97.09, -356.7, 406.5),
    "130": (-76.65, 334.9, -493.4, 275.8),
    "90": (-60.34, 262.5, -384.2, 210.9),
    "65": (-53.3, 230.4, -333.9, 178.6),
    "45HP": (-501.6, 1567, -1619, 566.1),
    "32HP": (-1047, 2982, -2797, 873.5),
    "20HP": (0, 34.63, -66.37, 41.15),
    "16HP": (0, 24.8, -47.52, 28.87),
    "14HP": (-40.66, 109.2, -100.6, 35.92),
    "10HP": (-34.95, 93.65, -85.99, 30.4),
    "7HP": (-28.58, 76.6, -70.26, 24.69),
    "45LP": (-285.7, 1239, -1795, 898.8),
    "32LP": (-325.9, 1374, -1922, 913.2),
}
"""b_3, b_2, b_1, b_0."""
SUPPLIES = {
    "180": (1.0, 1.8),
    "130": (0.7, 1.3),
    "90": (0.7, 1.3),
    "65": (0.7, 1.2),
    "45HP": (0.5, 1.1),
    "45LP": (0.5, 1.2),
    "32HP": (0.5, 1.0),
    "32LP": (0.6, 1.2),
    **dict.fromkeys(("20HP", "16HP", "20LP", "16LP"), (0.5, 0.95)),
    **dict.fromkeys(("14HP", "10HP", "7HP", "14LP", "10LP", "7LP"), (0.5, 1.0)),
}
"""Lowest and highest supply (V) at which a row is used here: the page with the coefficients states none.

From the lowest at which the energy rises about as fast as V at least (coarse nodes have a minimum at 0.5 to 0.6 V,
which no logic has) to a little above the nominal supply; in there all energies are positive and rise, and delays fall.
"""
TURNS = {"45HP": 0.945, "32HP": 0.845}
"""Supplies (V) at which a cubic of the delay turns inside that range, and rises for a while: it is held from there."""


def area_ratio(from_node, to_node) -> Float[Array, "..."]:
    """What an area of logic at one node (m) is multiplied by at another.

    Raises DeviceError for a node outside 7 to 180 nm.

    >>> area_ratio(40e-9, 28e-9)
    0.484
    """
    return jnp.exp(_interpolated(np.log(AREAS), to_node) - _interpolated(np.log(AREAS), from_node))


def energy_ratio(from_node, from_vdd, to_node, to_vdd, kind: str = "HP") -> Float[Array, "..."]:
    """What a dynamic energy of logic at one node (m) and supply (V) is multiplied by at another.

    Args:
        from_node, to_node: 7e-9 to 180e-9.
        from_vdd, to_vdd: supplies, in the range of `supply_range`.
        kind: one of `KINDS`.

    Nodes and supplies may be arrays of one shape, and may be traced: what is traced is not checked, and held at the
    ends of its range.

    Raises DeviceError for a node or a supply out of range.

    >>> energy_ratio(32e-9, 0.9, 65e-9, 1.1)
    3.68
    """
    return jnp.exp(_log_figure(ENERGIES, to_node, to_vdd, kind) - _log_figure(ENERGIES, from_node, from_vdd, kind))


def delay_ratio(from_node, from_vdd, to_node, to_vdd, kind: str = "HP") -> Float[Array, "..."]:
    """What a delay of logic at one node (m) and supply (V) is multiplied by at another, like `energy_ratio`.

    The cubics of 45 and 32 nm, high performance, rise again from 0.945 and 0.845 V on; they are held from there on.

    Raises DeviceError for a node or a supply out of range, and for low power below 32 nm, which is not tabulated.
    """
    return jnp.exp(_log_figure(DELAYS, to_node, to_vdd, kind) - _log_figure(DELAYS, from_node, from_vdd, kind))


def supply_range(node: float, kind: str = "HP") -> tuple[float, float]:
    """Lowest and highest supply (V) at a node (m); between two nodes what both of them allow."""
    return _common_range(node, kind, SUPPLIES)


def supply_polynomial(node: float, nominal: float, kind: str = "HP") -> SupplyPolynomial:
    """What the supply does to energies and delays that are given at `nominal` (V), at a node (m): a part for devices.

    Between two nodes it is the mean of both, each over its value at the nominal supply, weighted by the logarithm of
    the node. Above the supply at which a delay turns (`TURNS`) there is none.

    Raises DeviceError for a node or a nominal supply out of range.

    >>> macro = dataclasses.replace(macro, supply=supply_polynomial(22e-9, 0.8))
    """
    fine, coarse, weight = _neighbours(node)
    ranges = {row: (low, min(high, TURNS.get(row, high))) for row, (low, high) in SUPPLIES.items()}
    low, high = _common_range(node, kind, ranges)
    if not low <= nominal <= high:
        raise DeviceError(
            f"nominal = {nominal:g} V, but energy and delay of {kind} logic at {node * 1e9:g} nm are known from "
            f"{low:g} to {high:g} V: choose one in that range, or another kind ({', '.join(KINDS)})"
        )
    energies, delays = (
        (1 - weight) * _relative(table, fine, nominal, kind) + weight * _relative(table, coarse, nominal, kind)
        for table in (ENERGIES, DELAYS)
    )
    lowest_first = (powers[::-1].copy() for powers in (energies, delays))
    return SupplyPolynomial(*(jnp.asarray(value, jnp.float32) for value in (nominal, *lowest_first, low, high)))


def _relative(table: dict[str, tuple], at: int, nominal: float, kind: str) -> np.ndarray:
    """The polynomial at the node of index `at`, over its value at the nominal supply; highest power first."""
    powers = np.array(_row(table, at, kind), np.float64)
    return powers / np.polyval(powers, nominal)


def _name(at: int, kind: str) -> str:
    """The row of the node of index `at`."""
    nm = round(NODES[at] * 1e9)
    if nm > 45:
        return str(nm)
    return f"{nm}{('LP' if nm >= 32 else 'HP') if kind == 'LP-HP' else kind}"


def _row(table: dict[str, tuple], at: int, kind: str) -> tuple:
    name = _name(at, kind)
    if name not in table:
        raise DeviceError(f"no delay is tabulated for {name}: take kind = 'HP', or 'LP-HP'")
    return table[name]


def _neighbours(node: float) -> tuple[int, int, float]:
    """Indices of the finer and the coarser node, and the weight of the coarser."""
    _check_kind_and_node("HP", node)
    exact = np.isclose(NODES, node, rtol=1e-4, atol=0)
    if exact.any():
        at = int(np.argmax(exact))
        return at, at, 0.0
    coarse = int(np.searchsorted(NODES, node))
    return coarse - 1, coarse, float(np.log(node / NODES[coarse - 1]) / np.log(NODES[coarse] / NODES[coarse - 1]))


def _common_range(node: float, kind: str, ranges: dict[str, tuple[float, float]]) -> tuple[float, float]:
    _check_kind_and_node(kind, node)
    fine, coarse, _ = _neighbours(node)
    both = [_row(ranges, at, kind) for at in (fine, coarse)]
    return max(low for low, _ in both), min(high for _, high in both)


def _check_kind_and_node(kind: str, node) -> None:
    if kind not in KINDS:
        raise DeviceError(f"kind = {kind!r} is none of {', '.join(KINDS)}")
    if isinstance(node, Tracer):
        return
    for one in np.ravel(np.asarray(node, np.float64)):
        if not NODES[0] * (1 - 1e-4) <= one <= NODES[-1] * (1 + 1e-4):
            raise DeviceError(f"node = {one * 1e9:g} nm, but scaling is known from 7 to 180 nm (nodes are given in m)")


def _check_supply(node, vdd, kind: str) -> None:
    if isinstance(node, Tracer) or isinstance(vdd, Tracer):
        return
    for one, supply in np.broadcast(np.asarray(node, np.float64), np.asarray(vdd, np.float64)):
        low, high = supply_range(float(one), kind)
        if not low * (1 - 1e-5) <= supply <= high * (1 + 1e-5):
            raise DeviceError(
                f"vdd = {supply:g} V, but the scaling of {kind} logic at {one * 1e9:g} nm holds from {low:g} to "
                f"{high:g} V: choose one in that range"
            )


def _interpolated(logs: np.ndarray | Float[Array, "nodes *n"], node) -> Float[Array, "*n"]:
    """A figure's logarithm at a node, from those at all nodes."""
    _check_kind_and_node("HP", node)
    node = jnp.log(jnp.asarray(node, jnp.float32) * 1e9)
    return jnp.interp(node, jnp.log(jnp.asarray(NODES * 1e9, jnp.float32)), jnp.asarray(logs, jnp.float32))


def _log_figure(table: dict[str, tuple], node, vdd, kind: str) -> Float[Array, "..."]:
    """The logarithm of a polynomial at a node and supply, both arrays of one shape."""
    _check_kind_and_node(kind, node)
    _check_supply(node, vdd, kind)
    names = [_name(at, kind) for at in range(len(NODES))]
    known = [at for at, name in enumerate(names) if name in table]
    if len(known) < len(NODES) and not isinstance(node, Tracer):
        for one in np.ravel(np.asarray(node, np.float64)):
            for at in _neighbours(float(one))[:2]:
                _row(table, at, kind)
    node, vdd = jnp.broadcast_arrays(jnp.asarray(node, jnp.float32), jnp.asarray(vdd, jnp.float32))
    logs = jnp.log(jnp.asarray(NODES[known] * 1e9, jnp.float32))
    powers = jnp.asarray([table[names[at]] for at in known], jnp.float32)
    ranges = [SUPPLIES[names[at]] for at in known]
    lowest = jnp.asarray([low for low, _ in ranges], jnp.float32)
    ends = [
        min(high, TURNS.get(names[at], high)) if table is DELAYS else high
        for at, (_, high) in zip(known, ranges, strict=True)
    ]
    highest = jnp.asarray(ends, jnp.float32)
    place = jnp.interp(jnp.log(node * 1e9), logs, jnp.arange(len(known), dtype=jnp.float32))
    fine = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, len(known) - 2)

    def log_at(row):
        supply = jnp.clip(vdd, lowest[row], highest[row])
        value = sum(powers[row, i] * supply ** (powers.shape[1] - 1 - i) for i in range(powers.shape[1]))
        return jnp.log(value)

    return log_at(fine) + (place - fine) * (log_at(fine + 1) - log_at(fine))
