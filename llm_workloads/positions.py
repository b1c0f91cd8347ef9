"""How tokens know where they are: by rotation of queries and keys, or by an embedding of the position.

Sources: Su et al., arXiv 2104.09864 (rotary positions), in the half-split order of Hugging Face checkpoints; Chen et
al., arXiv 2306.15595 (linear interpolation); Peng et al., arXiv 2309.00071 (YaRN); Llama 3.1's scaling as its reference
code has it (meta-llama/llama-models, apply_scaling).
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pim.llm_workloads.errors import WorkloadError

Frequencies = Float[Array, " pairs"]


@dataclass(frozen=True)
class LinearScaling:
    """Positions are divided by a factor."""

    factor: float

    def scaled(self, frequencies: Frequencies, rotary: "Rotary", pairs: int) -> Frequencies:
        """The frequencies of a context that is longer by the factor."""
        return frequencies / self.factor

    @property
    def gain(self) -> float:
        """What rotated values are multiplied by."""
        return 1.0


@dataclass(frozen=True)
class Llama3Scaling:
    """Low frequencies are divided by a factor, high ones stay, those between are blended.

    Attributes:
        factor: by how much the context is longer.
        low_freq_factor: fewer turns than that within the original context are a low frequency.
        high_freq_factor: more turns than that are a high one.
        original: tokens of the original context.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original: int

    def scaled(self, frequencies: Frequencies, rotary: "Rotary", pairs: int) -> Frequencies:
        """The frequencies of a context that is longer by the factor."""
        turns = self.original * frequencies / (2 * math.pi)
        blend = jnp.clip((turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor), 0.0, 1.0)
        return (1 - blend) * frequencies / self.factor + blend * frequencies

    @property
    def gain(self) -> float:
        """What rotated values are multiplied by."""
        return 1.0


@dataclass(frozen=True)
class YarnScaling:
    """Like `Llama3Scaling`, blended by the index of the pair; rotated values grow a little with the factor.

    Attributes:
        factor: by how much the context is longer.
        original: tokens of the original context.
        beta_fast: turns within the original context above which a frequency stays.
        beta_slow: turns below which it is divided.
        gain: what rotated values are multiplied by.
        truncate: the pairs at which blending begins and ends are whole numbers.
    """

    factor: float
    original: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    gain: float = 1.0
    truncate: bool = True

    def scaled(self, frequencies: Frequencies, rotary: "Rotary", pairs: int) -> Frequencies:
        """The frequencies of a context that is longer by the factor."""

        def pair(turns: float) -> float:
            return pairs * math.log(self.original / (turns * 2 * math.pi)) / math.log(rotary.theta)

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * pairs - 1)
        high = high + 0.001 if low == high else high
        slow = jnp.clip((jnp.arange(pairs, dtype=jnp.float32) - low) / (high - low), 0.0, 1.0)
        return frequencies / self.factor * slow + frequencies * (1 - slow)


@dataclass(frozen=True)
class Rotary:
    """Each pair of a query's and a key's values is turned by an angle in proportion to the position.

    Attributes:
        theta: base of the frequencies.
        dims: values of a head that are turned, the first ones, even; None: all.
        scaling: how frequencies change for contexts longer than those of training; None: they do not.
    """

    theta: float = 10000.0
    dims: int | None = None
    scaling: LinearScaling | Llama3Scaling | YarnScaling | None = None

    def check(self, head_dim: int) -> None:
        """Raise WorkloadError if a head of this width cannot be turned."""
        if isinstance(self.theta, bool) or not isinstance(self.theta, (int, float)) or not 0 < self.theta < math.inf:
            raise WorkloadError(f"rope_theta must be a positive number, not {self.theta!r}")
        if self.theta < 1:
            raise WorkloadError(f"rope_theta must be at least 1, not {self.theta!r}")
        turned = head_dim if self.dims is None else self.dims
        name = "head_dim" if self.dims is None else "the turned part of a head"
        if turned % 2:
            raise WorkloadError(f"{name} must be even for rotary positions, not {turned}")
        if not 0 < turned <= head_dim:
            raise WorkloadError(f"{name} is {turned} values of a head of {head_dim}")

    def rotate(
        self, x: Float[Array, "batch time heads head_dim"], positions: Int[Array, "batch time"]
    ) -> Float[Array, "batch time heads head_dim"]:
        """Turn each pair (x_i, x_{i + dims/2}) by `position * theta^(-2i / dims)`, or as scaled."""
        dims = x.shape[-1] if self.dims is None else self.dims
        half = dims // 2
        frequency = self.theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
        if self.scaling is not None:
            frequency = self.scaling.scaled(frequency, self, half)
        angle = positions[:, :, None, None].astype(jnp.float32) * frequency[None, None, None, :]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        if self.scaling is not None and self.scaling.gain != 1.0:
            cos, sin = cos * self.scaling.gain, sin * self.scaling.gain
        first, second, rest = x[..., :half], x[..., half:dims], x[..., dims:]
        parts: list[Any] = [first * cos - second * sin, second * cos + first * sin]
        return jnp.concatenate([*parts, rest] if dims < x.shape[-1] else parts, axis=-1)


@dataclass(frozen=True)
class Learned:
    """Each position has an embedding, added to the token's.

    Attributes:
        rows: rows of the table.
        offset: row of the first position.
    """

    rows: int
    offset: int = 0

    def check(self, tokens: int) -> None:
        """Raise WorkloadError for a sequence that is longer than the table."""
        if tokens > self.rows - self.offset:
            raise WorkloadError(
                f"a sequence of {tokens} tokens, but the model has learned {self.rows - self.offset} positions: give a "
                "shorter context"
            )

    def rotate(self, x: Array, positions: Array) -> Array:
        """Queries and keys stay as they are."""
        return x
