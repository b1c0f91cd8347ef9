"""A store of keys and values beside what multiplies them: their format, what age does to them, and what is kept.

The words that are stored are those of a number format; a code of an integer format shares its scale, a float32, with
its token's vector of a head. What a query reads of an older token may have changed by then: charges leak (`Fading`), or
bits are lost (`RetentionErrors`), which is a matter of the time between the two tokens.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

from pim.devices.components.memory_interface import MemoryInterface
from pim.devices.device import Device
from pim.devices.device import replace as changed
from pim.devices.errors import DeviceError
from pim.devices.number_format import FLOATS, INTEGERS, integer_codes, integer_scale
from pim.devices.random import fine_uniform, fold
from pim.devices.record import cast, leaf, part, record, static
from pim.devices.retention_errors import RetentionErrors
from pim.devices.stored_words import WORD_BITS, code_values, code_words, finite_words, float_values, float_words

SCALE_BYTES = 4
"""Of the scale that the codes of a token's vector share."""


@record
class Fading:
    """Charges that leak as a capacitor does: of a value exp(-age / time_constant) is left.

    Gain cells are read this way (Leroux et al., Nature Computational Science 5, 813, 2025).
    """

    time_constant: Float[Array, ""] = leaf("s", "time in which charges fall to 1/e", low=1e-12)

    def left(self, age: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The share of a value that is left at an age (s)."""
        return jnp.exp(-age / self.time_constant)


class Words(NamedTuple):
    """Vectors of tokens as they are stored."""

    words: UInt32[Array, "tokens head_dim"]
    scale: Float[Array, "tokens 1"] | None


class Cells(NamedTuple):
    """The cells in which vectors are: the rate of failures from which on each fails, and whose charge is a zero."""

    limits: Float[Array, "bits tokens head_dim"]
    anti: Bool[Array, "tokens"]


@record
class KeyValueStore:
    """A memory for keys and values alone, read by the device that multiplies them.

    With nothing but a window it is no memory but a rule of what is kept, in the memory or in the cells of the device
    that multiplies.

    Example:
        >>> memory = pim.component("dram-ddr4-interface")
        >>> kv = pim.key_value_store(format="int8", interface=memory, capacity=2**30, window=1020, sinks=4)
        >>> system = pim.System({"gpu": pim.preset("gpu-a100"), "kv": kv}, stores={"gpu": "kv"})
    """

    format: str | None = static(
        "number format of what is stored; absent: nothing is, and the device that multiplies holds keys and values",
        choices=(None, *FLOATS, *INTEGERS),
        default=None,
    )
    interface: MemoryInterface | None = part("what a byte read or written takes; absent: nothing", default=None)
    capacity: Float[Array, ""] | None = leaf("1", "bytes that it has room for; absent: any number", low=1, default=None)
    standing_power: Float[Array, ""] = leaf(
        "W", "static power, refreshes that are not of `retention`", low=0, default=0.0
    )
    area: Float[Array, ""] | None = leaf("m^2", "area; absent: unknown", low=0, default=None)
    window: int | None = static("tokens that are kept, the last ones; absent: all", low=1, default=None)
    sinks: int = static("tokens that are kept besides, the first ones", low=0, default=0)
    retention: RetentionErrors | Fading | None = part("what age does to what is stored; absent: nothing", default=None)
    token_time: Float[Array, ""] | None = leaf(
        "s", "time from one token of a sequence to the next, by which ages are counted", low=0, default=None
    )

    @property
    def holds(self) -> bool:
        """Whether keys and values are in it, not with the device that multiplies them."""
        return self.format is not None

    def prepare(self) -> "KeyValueStore":
        """The store itself, if its parts make sense together; else DeviceError."""
        if self.sinks and self.window is None:
            raise DeviceError(f"sinks = {self.sinks} without a window: everything is kept, give window too")
        if self.format is None and not (self.interface is None and self.retention is None and self.capacity is None):
            raise DeviceError(f"a store that holds keys and values needs a format: one of {', '.join(WORD_BITS)}")
        if self.retention is not None and self.token_time is None:
            raise DeviceError("retention counts ages in seconds: give token_time, the time from one token to the next")
        if isinstance(self.retention, RetentionErrors) and self.retention.ecc_word_bits:
            raise DeviceError(
                f"retention.ecc_word_bits = {self.retention.ecc_word_bits}: a store's words are read without "
                "correction, set it to 0"
            )
        return self

    def value_bytes(self, head_dim: int) -> float:
        """Bytes of a number, its part of a scale among them."""
        assert self.format is not None
        return WORD_BITS[self.format] / 8 + (SCALE_BYTES / head_dim if self.format in INTEGERS else 0.0)

    def write(self, vectors: Float[Array, "tokens head_dim"]) -> Words:
        """The words of vectors; what a floating-point format cannot hold becomes its largest value."""
        name = self.format
        assert name is not None
        if name in FLOATS:
            return Words(finite_words(float_words(vectors, name), name), None)
        scale = integer_scale(vectors, INTEGERS[name], "row")
        return Words(code_words(integer_codes(vectors, scale, INTEGERS[name]), name), scale)

    def values(self, held: Words) -> Float[Array, "tokens head_dim"]:
        """The numbers that words stand for."""
        assert self.format is not None
        if held.scale is None:
            return float_values(held.words, self.format)
        return code_values(held.words, self.format).astype(jnp.float32) * held.scale

    def cells(self, key: Key[Array, ""], tokens: int, head_dim: int) -> Cells:
        """The cells of the tokens of one head; a token's hang on the key and its position alone."""
        assert self.format is not None and isinstance(self.retention, RetentionErrors)
        law, bits = self.retention, jnp.arange(WORD_BITS[self.format], dtype=jnp.uint32)

        def of_token(position: UInt32[Array, ""]) -> tuple[Array, Array]:
            own = fold(key, position)
            limits = jax.vmap(lambda bit: fine_uniform(fold(own, bit), (head_dim,)))(bits)
            return limits, law.anti(own, 1)[0]

        limits, anti = jax.vmap(of_token, out_axes=(1, 0))(jnp.arange(tokens, dtype=jnp.uint32))
        return Cells(limits, anti)

    def aged(self, held: Words, cells: Cells | None, age: Float[Array, "tokens"]) -> Float[Array, "tokens head_dim"]:
        """The numbers as they are read at an age (s) of each token; `cells` where bits are lost.

        A refresh writes back what it finds: what is lost until the first one stays lost, and nothing is lost behind.
        """
        name, law = self.format, self.retention
        if isinstance(law, Fading):
            return self.values(held) * law.left(age)[:, None]
        assert name is not None and law is not None and cells is not None
        rate = law.lost_after(jnp.minimum(age, law.refresh_interval))[None, :, None]
        bits = jnp.arange(WORD_BITS[name], dtype=jnp.uint32)[:, None, None]
        failing = jnp.sum((cells.limits < rate).astype(jnp.uint32) << bits, axis=0, dtype=jnp.uint32)
        read = law.after(held.words, name, cells.anti[:, None], failing)
        return self.values(held._replace(words=read))


def key_value_store(**fields: Any) -> Device:
    """A store of keys and values, for a `System`.

    Fields are those of `KeyValueStore`; its interface may be a component.

    Raises DeviceError for an unknown field, a value out of range, and parts that make no sense together.

    >>> pim.key_value_store(format="fp16", interface=pim.component("dram-ddr4-interface"))
    >>> pim.key_value_store(window=1020, sinks=4)  # what is kept, in the cells of the device beside it
    """
    nothing = Device("kv-store", "memory", "a store of keys and values", cast(KeyValueStore()), {}, {})
    return changed(nothing, {name: value for name, value in fields.items() if value is not None})
