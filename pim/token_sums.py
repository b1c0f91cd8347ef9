"""What is summed over the scored tokens of each sequence: the ground of every accuracy figure."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def token_sums(
    logits: Float[Array, "batch time vocab"],
    exact: Float[Array, "batch time vocab"],
    tokens: Int[Array, "batch time"],
    scored: Float[Array, "batch time-1"],
) -> dict[str, Float[Array, " batch"]]:
    """Sums over the scored tokens of each row, by the names that they have in `Scores`.

    Args:
        logits: log probabilities (`jax.nn.log_softmax`) of the emulated model behind every token.
        exact: those of the exact model.
        tokens: ids.
        scored: 1 where the token behind this one is scored, else 0.

    Returns:
        nll: loss in nats.
        kl: Kullback-Leibler divergence of the next-token distribution from the exact model's, in nats.
        agree: tokens at which the likeliest next token is the exact model's.
        right: tokens at which the likeliest next token is the one that follows: what greedy decoding would write.

    Example:
        >>> token_sums(exact, exact, tokens, scored)["nll"]  # of the exact model itself
    """
    logits, exact, following = logits[:, :-1], exact[:, :-1], tokens[:, 1:]
    likeliest = logits.argmax(axis=-1)
    values = {
        "nll": -jnp.take_along_axis(logits, following[..., None], axis=-1)[..., 0],
        "kl": (jnp.exp(exact) * (exact - logits)).sum(axis=-1),
        "agree": likeliest == exact.argmax(axis=-1),
        "right": likeliest == following,
    }
    return {name: (value * scored).sum(axis=1) for name, value in values.items()}
