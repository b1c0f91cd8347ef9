"""Which token comes next: the likeliest one, or a random one by its probability.

A token is drawn by the Gumbel-max trick (Gumbel 1954; Maddison et al., arXiv 1411.0030): the largest of
`logits + temperature * g` with standard Gumbel numbers g is a draw from `softmax(logits / temperature)`, and at a
temperature of 0 it is the likeliest token. With the same g, models choose differently only where their logits make
them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from pim.devices.random import gumbel_rows
from pim.devices.record import leaf, record
from pim.errors import StudyError

_COLDEST = 1e-6
"""The nucleus at a temperature of 0 is that of this one: the likeliest token."""


@record
class Sampling:
    """How a token is chosen; without `top_k` and `top_p` any token may be."""

    temperature: Float[Array, ""] = leaf("1", "logits are divided by it; 0: the likeliest token", low=0.0)
    top_k: Int[Array, ""] | None = leaf("1", "only so many likeliest tokens may be chosen", low=1, default=None)
    top_p: Float[Array, ""] | None = leaf(
        "1", "only the fewest likeliest tokens of this probability together", low=0.0, high=1.0, default=None
    )

    def choose(self, logits: Float[Array, "rows vocab"], keys: Key[Array, "rows"]) -> Int[Array, "rows"]:
        """A token for each row; the random numbers hang on the row's key alone."""
        noisy = logits + self.temperature * gumbel_rows(keys, logits.shape[-1])
        return jnp.where(self.allowed(logits), noisy, -jnp.inf).argmax(axis=-1).astype(jnp.int32)

    def allowed(self, logits: Float[Array, "rows vocab"]) -> Bool[Array, "rows vocab"]:
        """Which tokens may be chosen: of the `top_k` likeliest those that `top_p` leaves, at least one.

        A token stays if those likelier than it have together less than `top_p` of the probability of the `top_k`, at
        this temperature (Holtzman et al., arXiv 1904.09751). Of equal ones the lower ids come first.
        """
        if self.top_k is None and self.top_p is None:
            return jnp.ones(logits.shape, bool)
        order = jnp.argsort(-logits, axis=-1, stable=True)
        ranked = jnp.take_along_axis(logits, order, axis=-1)
        kept = jnp.ones(logits.shape, bool)
        if self.top_k is not None:
            kept = jnp.arange(logits.shape[-1])[None, :] < self.top_k
        if self.top_p is not None:
            cold = jnp.maximum(self.temperature, _COLDEST)
            probability = jax.nn.softmax(jnp.where(kept, ranked, -jnp.inf) / cold, axis=-1)
            before = jnp.cumsum(probability, axis=-1) - probability
            kept &= (before < self.top_p).at[:, 0].set(True)
        return jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), axis=-1)

    def in_words(self) -> str:
        """How a token is chosen, for the protocol."""
        if self.temperature == 0:
            return "the likeliest token"
        limits = [f"top {name} {v:g}" for name, v in (("k", self.top_k), ("p", self.top_p)) if v is not None]
        return ", ".join([f"temperature {self.temperature:g}", *limits])


def sampling(temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None) -> Sampling:
    """How tokens are chosen, checked; raises StudyError for what is out of range.

    >>> sampling(0.8, top_p=0.95).in_words()
    'temperature 0.8, top p 0.95'
    """
    if not 0 <= temperature < float("inf"):
        raise StudyError(f"temperature = {temperature}: give a number of at least 0, which takes the likeliest token")
    if top_k is not None and top_k < 1:
        raise StudyError(f"top_k = {top_k}: give at least one token to choose from, or leave it away")
    if top_p is not None and not 0 < top_p <= 1:
        raise StudyError(f"top_p = {top_p}: give a probability above 0, up to 1, or leave it away")
    most = np.iinfo(np.int32).max
    return Sampling(
        jnp.float32(temperature),
        None if top_k is None else jnp.int32(min(top_k, most)),
        None if top_p is None else jnp.float32(top_p),
    )
