"""Activation functions by table, at the banks: a segment is looked up and a straight line drawn through it.

GDDR6-AiM keeps the tables of ReLU, leaky ReLU, sigmoid, tanh and GELU in reserved rows (Kwon et al., JSSC 58, 2023, doi
10.1109/JSSC.2022.3200718). How many segments a table has is not public; CENT's functional model of AiM (ASPLOS 2025)
takes 512 of [-10, 10] for the sigmoid. That model means to interpolate, but its slope is not divided by the width of a
segment, 20/512, so that in effect it reads the nearest lower entry: `interpolation = "lower"` is its account, "linear"
what is meant.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from pim.devices.errors import DeviceError
from pim.devices.number_format import FLOATS, rounded
from pim.devices.record import leaf, record, static

FUNCTIONS: dict[str, Callable[..., Array]] = {
    "relu": lambda x, leak: jnp.maximum(x, 0.0),
    "leaky_relu": lambda x, leak: jnp.where(x < 0, leak * x, x),
    "sigmoid": lambda x, leak: jax.nn.sigmoid(x),
    "tanh": lambda x, leak: jnp.tanh(x),
    "gelu": lambda x, leak: jax.nn.gelu(x, approximate=False),
    "silu": lambda x, leak: jax.nn.silu(x),
    "exp": lambda x, leak: jnp.exp(x),
}
"""By name: the exact functions of x and of the slope of the leaky ReLU below zero."""

RISING = ("relu", "leaky_relu", "gelu", "silu")
"""Functions that beyond the table go on with slope 1; the others stay at its last entry."""


@record
class ActivationTable:
    """A function by `segments` equal segments of [low, high], and what holds beyond.

    Beyond the table a straight line goes on from its last entry, with the slope that the function has far out: 1 above
    for ReLU, leaky ReLU, GELU and SiLU; the leak below for leaky ReLU; 0, the last entry itself, everywhere else. One
    exception: exp is zero below the table and not its first entry, as a masked score of -inf must weigh nothing.

    The entries are rounded to `entry`, the result to `result`; the place in the table and the line are computed in
    float32.

    >>> ActivationTable("sigmoid")(jnp.linspace(-12, 12, 7))
    >>> ActivationTable("gelu", segments=64, low=-4.0, high=4.0, interpolation="nearest")
    """

    function: str = static("function of the table", choices=tuple(FUNCTIONS))
    segments: int = static("segments of the table; it has an entry more", low=1, default=512)
    low: Float[Array, ""] = leaf("1", "where the table begins", low=-1e4, high=1e4, default=-10.0)
    high: Float[Array, ""] = leaf("1", "where it ends", low=-1e4, high=1e4, default=10.0)
    interpolation: str = static(
        "what is read inside a segment: the line through its ends, the lower end, or the nearer one",
        choices=("linear", "lower", "nearest"),
        default="linear",
    )
    entry: str = static("format of the entries", choices=tuple(FLOATS), default="bf16")
    result: str = static("format of the result", choices=tuple(FLOATS), default="bf16")
    leak: Float[Array, ""] = leaf("1", "slope of leaky ReLU below zero", low=0, high=1, default=0.01)

    def prepare(self) -> "ActivationTable":
        """The table itself, if it begins before it ends; else DeviceError."""
        if not isinstance(self.low, Tracer) and not isinstance(self.high, Tracer):
            low, high = float(np.asarray(self.low)), float(np.asarray(self.high))
            if not low < high:
                raise DeviceError(
                    f"the table of {self.function} begins at low = {low:g} and ends at high = {high:g}: "
                    "low must be smaller than high"
                )
        return self

    def exact(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The function itself, in float32."""
        return FUNCTIONS[self.function](x, self.leak)

    def entries(self) -> Float[Array, "entries"]:
        """The table: the function at the ends of all segments, rounded."""
        share = jnp.arange(self.segments + 1, dtype=jnp.float32) / self.segments
        return rounded(self.exact(self.low + (self.high - self.low) * share), self.entry)

    def __call__(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """What the table makes of values of any shape; NaN stays NaN."""
        return _applied(self, x)

    def _looked_up(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """Inside the table, and its first or last entry outside."""
        entries = self.entries()
        place = (x - self.low) / (self.high - self.low) * self.segments
        place = jnp.clip(place, 0.0, float(self.segments))
        if self.interpolation == "nearest":
            return entries[jnp.round(place).astype(jnp.int32)]
        if self.interpolation == "lower":
            return entries[jnp.floor(place).astype(jnp.int32)]
        lower = jnp.minimum(jnp.floor(place), self.segments - 1.0)
        segment = lower.astype(jnp.int32)
        start, end = entries[segment], entries[segment + 1]
        return start + (place - lower) * (end - start)

    def _beyond(self, x: Float[Array, "*n"], inside: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The lines that go on from the table's ends."""
        if self.function in RISING:
            inside = inside + jnp.maximum(x - self.high, 0.0)
        if self.function == "leaky_relu":
            below = jnp.where(self.leak == 0, 0.0, jnp.minimum(x - self.low, 0.0))  # 0 times -inf would be NaN
            inside = inside + self.leak * below
        if self.function == "exp":
            inside = jnp.where(x < self.low, 0.0, inside)
        return jnp.where(jnp.isnan(x), x, inside)


@jax.jit
def _applied(table: ActivationTable, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    x = jnp.asarray(x, jnp.float32)
    return rounded(table._beyond(x, table._looked_up(x)), table.result)
