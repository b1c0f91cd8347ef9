"""How the parts of a layer follow each other: a function for each kind of block, see `BLOCK_NORMS` in `config.py`.

Sources: Vaswani et al., arXiv 1706.03762 (norms behind the sums); Xiong et al., arXiv 2002.04745 (in front of the
parts); Wang and Komatsuzaki's GPT-J, and Black et al., arXiv 2204.06745 (attention beside the feed-forward layer);
Gemma Team, arXiv 2408.00118 (norms on both sides).
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array

NormOf = Callable[[str, Array], Array]
Attention = Callable[[Array], tuple[Array, Any]]
Part = Callable[[Array], Array]


def pre(x: Array, norm: NormOf, attention: Attention, ffn: Part) -> tuple[Array, Any]:
    """`x + attention(norm(x))`, then the same with the feed-forward layer."""
    mixed, cache = attention(norm("input_norm", x))
    x = x + mixed
    return x + ffn(norm("post_norm", x)), cache


def post(x: Array, norm: NormOf, attention: Attention, ffn: Part) -> tuple[Array, Any]:
    """`norm(x + attention(x))`, then the same with the feed-forward layer."""
    mixed, cache = attention(x)
    x = norm("attention.norm", x + mixed)
    return norm("ffn.norm", x + ffn(x)), cache


def sandwich(x: Array, norm: NormOf, attention: Attention, ffn: Part) -> tuple[Array, Any]:
    """`x + norm(attention(norm(x)))`, then the same with the feed-forward layer."""
    mixed, cache = attention(norm("input_norm", x))
    x = x + norm("attention.norm", mixed)
    return x + norm("ffn.norm", ffn(norm("post_norm", x))), cache


def parallel(x: Array, norm: NormOf, attention: Attention, ffn: Part) -> tuple[Array, Any]:
    """`x + attention(norm(x)) + ffn(other_norm(x))`."""
    mixed, cache = attention(norm("input_norm", x))
    return x + mixed + ffn(norm("post_norm", x)), cache


def parallel_shared(x: Array, norm: NormOf, attention: Attention, ffn: Part) -> tuple[Array, Any]:
    """`x + attention(norm(x)) + ffn(norm(x))`, of one norm."""
    source = norm("input_norm", x)
    mixed, cache = attention(source)
    return x + mixed + ffn(source), cache


BLOCKS = {f.__name__: f for f in (pre, post, sandwich, parallel, parallel_shared)}
