"""The slow oracle of wire resistance: Kirchhoff's law at every node of an array, solved directly in float64."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

FLOOR = 1e-9  # Ohm: what a wire without resistance gets


def nodal_conductance(g, word_line, bit_line, source=0.0, sense=0.0, drive_side="near", sense_side="far"):
    """Currents of the sensed lines for one volt on each row, [rows, columns]; `g` is [lines, rows, columns]."""
    lines, m, n = g.shape
    word = np.arange(lines * m * n).reshape(lines, m, n)
    bit = lines * m * n + np.arange(m * n).reshape(m, n)
    drivers = bit[-1, -1] + 1 + np.arange(m * lines).reshape(lines, m)
    senses = drivers[-1, -1] + 1 + np.arange(n)
    branches = [(word.ravel(), np.tile(bit.ravel(), lines), g.ravel())]

    def wire(one, other, resistance):
        one, other = np.broadcast_arrays(one, other)
        branches.append((one.ravel(), other.ravel(), np.full(one.size, 1 / max(resistance, FLOOR))))

    wire(word[:, :, :-1], word[:, :, 1:], word_line)
    wire(bit[:-1], bit[1:], bit_line)
    wire(drivers, word[:, :, 0 if drive_side == "near" else -1], source + word_line)
    wire(senses, bit[0 if sense_side == "near" else -1], sense + bit_line)

    a, b, c = (np.concatenate(x) for x in zip(*branches, strict=True))
    size = senses[-1] + 1
    laplacian = sp.coo_matrix((np.r_[c, c, -c, -c], (np.r_[a, b, a, b], np.r_[a, b, b, a])), (size, size)).tocsc()
    free = drivers[0, 0]
    volts = np.concatenate([np.eye(m) * sign for sign in (1.0, -1.0)[:lines]] + [np.zeros((n, m))])
    inner = splu(laplacian[:free, :free], permc_spec="MMD_AT_PLUS_A").solve(-(laplacian[:free, free:] @ volts))
    return -(laplacian[free:, :free] @ inner + laplacian[free:, free:] @ volts)[-n:].T
