"""A slow, obvious product on arrays, number by number: what the fast one is held against, for any code.

It knows of codes, slices, phases and where sums are added up, and of no error of cells and converters.
"""

import numpy as np


def slow_input(x: float, dac) -> list[tuple[int, int]]:
    """(level, place) of each step for one input in [-1, 1], and nothing of how the fast one finds them."""
    bits = int(dac.bits)
    whole = {
        "sign_magnitude": lambda: round(min(max(x, -1.0), 1.0) * (2 ** (bits - 1) - 1)),
        "unsigned": lambda: round(min(max(x, 0.0), 1.0) * (2**bits - 1)),
        "twos_complement": lambda: min(max(round(x * 2 ** (bits - 1)), -(2 ** (bits - 1))), 2 ** (bits - 1) - 1),
    }[dac.code]()
    if type(dac).__name__ != "BitSerialDAC":
        return [(whole, 1)]
    width = dac.slice_bits
    if dac.code == "twos_complement":
        low = whole % 2 ** (bits - 1)  # whole = low - 2^(bits-1) if negative
        steps = [(low // 2**k % 2**width, 2**k) for k in range(0, bits - 1, width)]
        return [*steps, (2 ** (width - 1) * (whole < 0), -(2 ** (bits - width)))]
    sent = bits if dac.code == "unsigned" else bits - 1
    sign = -1 if whole < 0 else 1
    return [(sign * (abs(whole) // 2**k % 2**width), 2**k) for k in range(0, sent, width)]


def slow_top(dac) -> int:
    """The whole number that an input of one is."""
    bits = int(dac.bits)
    return {"sign_magnitude": 2 ** (bits - 1) - 1, "unsigned": 2**bits - 1, "twos_complement": 2 ** (bits - 1)}[
        dac.code
    ]


def slow_largest(dac) -> int:
    """The whole number that is full drive."""
    return 2**dac.slice_bits - 1 if type(dac).__name__ == "BitSerialDAC" else slow_top(dac)


def code_values(adc, low: float, high: float) -> np.ndarray:
    """All values that a converter can give."""
    bits = int(adc.bits)
    return {
        "sign_magnitude": lambda: np.linspace(-high, high, 2**bits - 1),
        "twos_complement": lambda: np.linspace(-high, high, 2**bits + 1)[:-1],
        "unsigned": lambda: np.linspace(0, high, 2**bits),
        "offset": lambda: np.linspace(low, high, 2**bits),
    }[adc.code]()


def slow_convert(total: float, adc, low: float, high: float) -> float:
    """The value of a converter's that is nearest."""
    values = code_values(adc, low, high)
    return values[np.abs(values - total).argmin()]


def slow_product(w, x, m, full: float, low, high) -> np.ndarray:
    """y = x W of a macro without errors of cells; `low` and `high` are the ranges [tiles, parts, #columns]."""
    w, x = np.asarray(w, np.float64), np.asarray(x, np.float64)
    scale, limit = np.abs(w).max(axis=0), 2 ** (int(m.weight_bits) - 1) - 1
    width = -(-(int(m.weight_bits) - 1) // m.slices)
    whole = np.rint(w / scale * limit).astype(int)
    digit = [np.sign(whole) * (np.abs(whole) // 2 ** (width * s) % 2**width) / (2**width - 1) for s in range(m.slices)]
    place = [2 ** (width * s) * (2**width - 1) / limit for s in range(m.slices)]
    y = np.zeros((len(x), w.shape[1]))
    for b, n in np.ndindex(y.shape):
        sent = [slow_input(value / full, m.dac) for value in x[b]]
        for tile in range(-(-len(w) // m.rows)):
            rows = range(tile * m.rows, min((tile + 1) * m.rows, len(w)))
            column = n if high.shape[2] > 1 else 0
            for input_sign in (1, -1) if m.read_phases > 1 and m.dac.bipolar else (None,):
                for weight_sign in (1, -1) if m.read_phases == 4 else (None,):
                    sums = np.zeros((len(sent[0]), m.slices))
                    for k, s in np.ndindex(sums.shape):
                        for i in rows:
                            level, held = sent[i][k][0] / slow_largest(m.dac), digit[s][i, n]
                            level = level if input_sign is None else max(input_sign * level, 0)
                            held = held if weight_sign is None else max(weight_sign * held, 0)
                            sums[k, s] += level * held
                    counts = [p * slow_largest(m.dac) / slow_top(m.dac) for _, p in sent[0]]
                    at = column + w.shape[1] if weight_sign == -1 and high.shape[2] > 1 else column
                    y[b, n] += (
                        (input_sign or 1)
                        * (weight_sign or 1)
                        * _converted(sums, np.array(counts), np.array(place), m, low[tile, :, at], high[tile, :, at])
                    )
    return y * scale * full


def _converted(sums, counts, place, m, low, high) -> float:
    if m.shift_add == "all":
        return slow_convert(counts @ sums @ place, m.adc, low[0], high[0])
    total = 0.0
    for s in range(sums.shape[1]):
        if m.shift_add == "steps":
            total += place[s] * slow_convert(counts @ sums[:, s], m.adc, low[s], high[s])
        else:
            for k in range(sums.shape[0]):
                total += place[s] * counts[k] * slow_convert(sums[k, s], m.adc, low[s], high[s])
    return total
