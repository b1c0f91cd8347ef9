"""Orthogonal matrices that spread every channel over all others."""

import numpy as np
from jaxtyping import Float
from scipy.fft import dct
from scipy.linalg import hadamard


def spreading(n: int) -> Float[np.ndarray, "n n"]:
    """An orthogonal matrix of any size, with entries of about 1 / sqrt(n).

    Sylvester's Hadamard matrix for a power of two; for 2^k m, m odd, its Kronecker product with the cosine transform of
    m points, whose entries are sqrt(2) / sqrt(m) at most.
    """
    odd = n
    while odd % 2 == 0:
        odd //= 2
    even = hadamard(n // odd) / np.sqrt(n // odd)
    return np.kron(even, dct(np.eye(odd), norm="ortho")) if odd > 1 else even


def randomised(n: int, seed: int) -> Float[np.ndarray, "n n"]:
    """`spreading` with random signs of its rows, so that no channel is summed up with another by chance of their signs.

    The signs are part of a model's transform, not noise of a chip: NumPy's generator, from the seed alone.
    """
    signs = np.random.default_rng(seed).integers(0, 2, n) * 2.0 - 1.0
    return signs[:, None] * spreading(n)
