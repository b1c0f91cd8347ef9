"""Attention on gain cells: keys and values as charges, a hard sigmoid in place of the softmax, both products analog.

Leroux et al., Nature Computational Science 5, 813 (2025), its methods and code. A query drives an array of cells with
pulses of `query_levels` widths; a cell lets through a current that is a cubic in what its stored voltage is above
half of the supply. The charge S that a token's column collects becomes a pulse again (equation 3),

    phi(S) = T_max min(max(S / S_sat, 0), 1),

which drives the second array, of values; there is no softmax and nothing between the arrays is digital. What an array
of `tokens` values collects is counted in `output_levels` codes, and the codes of all arrays of a head add up digitally.
Charges leak: what a cell stores falls by exp(-decay) with every token. The window is a ring of arrays: a token takes
the place of the one `window` before it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from pim.devices.errors import DeviceError
from pim.devices.record import leaf, part, record, static

EXACT = jax.lax.Precision.HIGHEST


@jax.custom_jvp
def _rounded(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The nearest whole number, ties to even, with the slope 1 by which models are trained through it."""
    return jnp.round(x)


_rounded.defjvps(lambda slope, ans, x: slope)


def codes(x: Float[Array, "*n"], levels: int, low, high) -> Float[Array, "*n"]:
    """The whole numbers of steps, (high - low) / (levels - 1) each, that are next to values clipped to [low, high].

    They count from zero, so that zero stays zero. About zero an even number of levels ends at half a step on either
    side, which is rounded to even: 32 levels of [-1, 1] have codes -16 to 16.

    >>> codes(jnp.array([-0.2, 0.5, 0.61, 2.0]), 16, 0.0, 1.0)
    Array([ 0.,  8.,  9., 15.], dtype=float32)
    """
    return _rounded(jnp.clip(x, low, high) / (high - low) * (levels - 1))


def quantised(x: Float[Array, "*n"], levels: int, low, high) -> Float[Array, "*n"]:
    """Values at their codes, see `codes`."""
    return codes(x, levels, low, high) * ((high - low) / (levels - 1))


@record
class GainCell:
    """A gain cell: a capacitor that holds a voltage, and a transistor that reads it without taking its charge.

    What a read pulse of full width lets through, in the unit of the saturations of `GainAttention`, is
    constant + linear y + quadratic y^2 + cubic y^3 of y, the stored voltage above `v_zero` times what is left of it.
    """

    levels: int = static("levels of what is stored", low=2)
    v_min: Float[Array, ""] = leaf("V", "lowest stored voltage", low=0, high=5)
    v_max: Float[Array, ""] = leaf("V", "highest stored voltage", low=1e-3, high=5)
    v_zero: Float[Array, ""] = leaf("V", "stored voltage to which charges leak, about which currents have signs", low=0)
    constant: Float[Array, ""] = leaf("1", "charge at v_zero")
    linear: Float[Array, ""] = leaf("1/V", "charge by volt above it")
    quadratic: Float[Array, ""] = leaf("1/V^2", "by its square")
    cubic: Float[Array, ""] = leaf("1/V^3", "by its cube")
    decay: Float[Array, ""] = leaf("1", "share of what is stored that leaks with every token", low=0, high=1)

    def stored(self, volts: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The voltage (V) above `v_zero` that is stored for one that is asked for."""
        return quantised(volts, self.levels, self.v_min, self.v_max) - self.v_zero

    def orders(self) -> tuple[Float[Array, ""], ...]:
        """The coefficients of the current's polynomial, the constant first."""
        return self.constant, self.linear, self.quadratic, self.cubic


@record
class HeadScale:
    """What a digital value is multiplied by, and what is then added: one number for all heads, or one for each."""

    gain: Float[Array, "*heads"] = leaf("1", "factor")
    shift: Float[Array, "*heads"] = leaf("1", "what is added to the product")

    def __call__(self, x: Float[Array, "*n"], axis: int) -> Float[Array, "*n"]:
        """Values scaled, with the heads along an axis."""
        shape = [1] * x.ndim
        shape[axis] = x.shape[axis]
        gain, shift = (jnp.broadcast_to(each, x.shape[axis]).reshape(shape) for each in (self.gain, self.shift))
        return gain * x + shift


@record
class AttentionCost:
    """What a token takes in one head, whatever the context: all arrays of a head work at once."""

    time: Float[Array, ""] = leaf("s", "time of a token: both products, one behind the other", low=0)
    score_energy: Float[Array, ""] = leaf("J", "energy of the array of keys and of its pulses", low=0)
    value_energy: Float[Array, ""] = leaf("J", "energy of the array of values and of its counters", low=0)
    driver_energy: Float[Array, ""] = leaf("J", "energy of what makes pulses and voltages of codes", low=0)
    digital_energy: Float[Array, ""] = leaf("J", "energy of control, adders and routing", low=0)

    @property
    def energy(self) -> Float[Array, ""]:
        """Energy (J) of a token in one head."""
        return self.score_energy + self.value_energy + self.driver_energy + self.digital_energy


@record
class GainAttention:
    """The attention of a layer on gain cells, in place of a model's own: what `pim.gain_attention` places there.

    Example:
        >>> engine = pim.preset("gaincell-attention").model
        >>> mixed = engine(query, keys, values, seen, positions)
    """

    cell: GainCell = part("the cells of both arrays")
    query: HeadScale = part("from a query to its share of the longest pulse")
    key: HeadScale = part("from a key to the voltage (V) that is stored")
    value: HeadScale = part("from a value to the voltage (V) that is stored")
    output: HeadScale = part("from the sum of the arrays' counts to the output")
    query_levels: int = static("widths of the pulses of queries", low=2)
    output_levels: int = static("codes of the counters behind the arrays of values", low=2)
    rows: int = static("rows of an array of keys: the widest head", low=1)
    tokens: int = static("tokens of an array", low=1)
    window: int = static("tokens that are kept, in arrays one after another", low=1)
    pulse: Float[Array, ""] = leaf("s", "longest pulse", low=1e-12, high=1)
    score_saturation: Float[Array, ""] = leaf("1", "charge of a token's scores at which its pulse is longest", low=1e-9)
    value_saturation: Float[Array, ""] = leaf("1", "charge of an array's values at which its counter is full", low=1e-9)
    cost: AttentionCost | None = part("time and energy; absent: unknown", default=None)

    def prepare(self) -> "GainAttention":
        """The engine itself, if its sizes fit one another; else DeviceError. Traced values are not looked at."""
        if self.window % self.tokens:
            raise DeviceError(
                f"window = {self.window} tokens is no whole number of arrays of tokens = {self.tokens}: "
                f"take a multiple of {self.tokens}"
            )
        cell, cost = self.cell, self.cost
        if any(isinstance(value, Tracer) for value in jax.tree.leaves(self)):
            return self
        if not float(np.asarray(cell.v_min)) <= float(np.asarray(cell.v_zero)) <= float(np.asarray(cell.v_max)):
            raise DeviceError(
                f"cell.v_zero = {float(cell.v_zero):g} V is not in [v_min, v_max] = "
                f"[{float(cell.v_min):g}, {float(cell.v_max):g}] V"
            )
        if cost is not None and float(cost.time) < 2 * float(self.pulse):
            raise DeviceError(
                f"cost.time = {float(cost.time):g} s is less than the two pulses of up to {float(self.pulse):g} s that "
                "a token takes one after the other"
            )
        return self

    def check_head(self, head_dim: int) -> None:
        """Raise DeviceError if a head has more numbers than an array of keys has rows."""
        if head_dim > self.rows:
            raise DeviceError(
                f"a head of {head_dim} numbers needs arrays of as many rows, and these have {self.rows}: "
                f"take rows = {head_dim}"
            )

    def __call__(
        self,
        query: Float[Array, "batch time heads head_dim"],
        keys: Float[Array, "batch kv_heads capacity head_dim"],
        values: Float[Array, "batch kv_heads capacity head_dim"],
        seen: Bool[Array, "batch #time capacity"],
        positions: Int[Array, "batch time"],
    ) -> Float[Array, "batch time heads*head_dim"]:
        """What attention gives.

        Args:
            query: of the new tokens.
            keys: of all tokens, the one at position p in slot p.
            values: likewise.
            seen: slots that a token attends to, of which the last `window` count.
            positions: of the new tokens in their sequences.

        Raises:
            DeviceError: a head wider than the arrays.
        """
        batch, time, heads, dim = query.shape
        self.check_head(dim)
        kv_heads = keys.shape[1]
        shares = quantised(self.query(query, 2), self.query_levels, 0.0, 1.0)
        shares = shares.reshape(batch, time, kv_heads, -1, dim).transpose(0, 2, 3, 1, 4)
        age = positions[:, :, None] - jnp.arange(keys.shape[2], dtype=positions.dtype)[None, None, :]
        kept = seen & (age >= 0) & (age < self.window)
        left = jnp.exp(-self.cell.decay * jnp.maximum(age, 0))[:, None, None]
        pulses = self.pulses(shares, self.cell.stored(self.key(keys, 1)), left)
        pulses = jnp.where(kept[:, None, None], pulses, 0.0)
        counts = self.counts(pulses, self.cell.stored(self.value(values, 1)), left)
        mixed = counts.sum(axis=-2) * (2.0 / (self.output_levels - 1))
        mixed = mixed.transpose(0, 3, 1, 2, 4).reshape(batch, time, heads, dim)
        return self.output(mixed, 2).reshape(batch, time, heads * dim)

    def pulses(
        self,
        shares: Float[Array, "batch kv_heads group time head_dim"],
        stored: Float[Array, "batch kv_heads capacity head_dim"],
        left: Float[Array, "batch 1 1 time capacity"],
    ) -> Float[Array, "batch kv_heads group time capacity"]:
        """The hard sigmoid of the scores, as shares of the longest pulse.

        Args:
            shares: widths of the queries' pulses over the longest.
            stored: keys (V, above `v_zero`) as they were written.
            left: share of them that is left by the time of each query.
        """
        constant, *slopes = self.cell.orders()
        charge = constant * shares.sum(axis=-1, keepdims=True) * jnp.ones_like(left)
        for order, slope in enumerate(slopes, 1):
            product = jnp.einsum("bkgtd,bksd->bkgts", shares, stored**order, precision=EXACT)
            charge = charge + slope * left**order * product
        return jnp.clip(charge / self.score_saturation, 0.0, 1.0)

    def counts(
        self,
        pulses: Float[Array, "batch kv_heads group time capacity"],
        stored: Float[Array, "batch kv_heads capacity head_dim"],
        left: Float[Array, "batch 1 1 time capacity"],
    ) -> Float[Array, "batch kv_heads group time arrays head_dim"]:
        """The codes of the counters behind each array of values, which the digital part adds up.

        Args:
            pulses: as shares of the longest; zero for tokens that are not kept.
            stored: values (V, above `v_zero`) as they were written.
            left: share of them that is left by the time of each query.
        """
        constant, *slopes = self.cell.orders()
        charge = constant * self._by_array(pulses, -1).sum(axis=(-3, -1))[..., None]
        for order, slope in enumerate(slopes, 1):
            driven, cells = self._by_array(pulses * left**order, -1), self._by_array(stored**order, -2)
            charge = charge + slope * jnp.einsum("bkgtrns,bkrnsd->bkgtnd", driven, cells, precision=EXACT)
        return codes(charge / self.value_saturation, self.output_levels, -1.0, 1.0)

    def _by_array(self, x: Float[Array, "*n"], axis: int) -> Float[Array, "*m"]:
        """Slots along an axis as (turn of the ring, array, cell), with nothing in those behind the last."""
        axis, slots = axis % x.ndim, x.shape[axis]
        arrays = min(self.window // self.tokens, -(-slots // self.tokens))
        turns = -(-slots // (arrays * self.tokens))
        rest = [(0, 0)] * x.ndim
        rest[axis] = (0, turns * arrays * self.tokens - slots)
        return jnp.pad(x, rest).reshape(*x.shape[:axis], turns, arrays, self.tokens, *x.shape[axis + 1 :])
