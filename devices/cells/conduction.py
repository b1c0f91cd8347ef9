"""Conduction: the current of a cell against its voltage, where that is not a straight line.

A law is a sum of products, I(G, V) = sum_r a_r(G) b_r(V): an array then computes sum_r a_r(G)^T b_r(V), an ordinary
product with r times as many rows, exact for every input and weight.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@runtime_checkable
class Conduction(Protocol):
    """The law of one technology."""

    def strengths(self, g: Float[Array, "*cells"]) -> list[Float[Array, "*cells"]]:
        """a_r of cells with low-voltage conductance `g` (S), in units that make a_r b_r a current (A)."""
        ...

    def drives(self, v: Float[Array, "*inputs"]) -> list[Float[Array, "*inputs"]]:
        """b_r at the word-line voltages `v` (V)."""
        ...


@record
class Sinh:
    """I = G v_0 sinh(V / v_0): hopping and tunnelling, G the conductance at low voltage (Stanford-PKU and SKY130)."""

    v_0: Float[Array, ""] = leaf("V", "voltage scale of the sinh", low=1e-3)

    def strengths(self, g: Float[Array, "*cells"]) -> list[Float[Array, "*cells"]]:
        """The conductance."""
        return [g]

    def drives(self, v: Float[Array, "*inputs"]) -> list[Float[Array, "*inputs"]]:
        """v_0 sinh(V / v_0)."""
        return [self.v_0 * jnp.sinh(v / self.v_0)]


@record
class Cubic:
    """I = G V + N2(G) V^2 + N3(G) V^3, the N polynomials in log10(G / S) (V. Milo et al., IRPS 2021, in CrossSim)."""

    quadratic: Float[Array, "degree"] = leaf("A/V^2", "coefficients of N2, ascending in log10(G / S)")
    cubic: Float[Array, "degree3"] = leaf("A/V^3", "coefficients of N3, ascending in log10(G / S)")
    g_lowest: Float[Array, ""] = leaf("S", "conductance below which the N are held constant", low=1e-12)

    def strengths(self, g: Float[Array, "*cells"]) -> list[Float[Array, "*cells"]]:
        """G, N2(G), N3(G)."""
        decades = jnp.log10(jnp.maximum(g, self.g_lowest))
        powers = [sum(c[k] * decades**k for k in range(c.shape[0])) for c in (self.quadratic, self.cubic)]
        return [g, *powers]  # type: ignore[list-item]

    def drives(self, v: Float[Array, "*inputs"]) -> list[Float[Array, "*inputs"]]:
        """V, V^2, V^3."""
        return [v, v**2, v**3]


def cell_current(
    law: Conduction | None, g: Float[Array, "*cells"], v: Float[Array, "*cells"]
) -> Float[Array, "*cells"]:
    """Current (A) of cells with low-voltage conductance `g` (S) at voltages `v` (V) of their own; None: g v."""
    if law is None:
        return g * v
    terms = [a * b for a, b in zip(law.strengths(g), law.drives(v), strict=True)]
    return sum(terms[1:], terms[0])
