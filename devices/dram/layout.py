"""Where a matrix lies in banks that all take one command: outputs over channels and units, inputs along the rows.

Padding is counted: a column is multiplied whole, and the units of a channel work as long as the busiest of them.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from pim.devices.dram.kernel import Memory
from pim.devices.dram.work import Work, ceil_div, whole


def shared(channels: Any, copies: Any) -> tuple[Any, Any]:
    """Channels that each copy of a matrix gets, and how many copies the busiest channel goes through."""
    channels = whole(channels)
    return jnp.maximum(channels // copies, 1), ceil_div(copies, channels)


class Piece(NamedTuple):
    """Pieces of one length into which the inputs are cut, for one output if nothing else is said.

    Attributes:
        count: how many of them there are.
        columns: columns that are multiplied.
        rows: rows that they lie in.
        last: columns in the last of these rows.
        visits: rows that are opened for all outputs of a unit.
        both: visits that begin together with a group of results.
        ends: whether the last group is one of these, and not the only one.
        final: columns in the row that is opened last, for all outputs in it.
    """

    count: Any
    columns: Any
    rows: Any
    last: Any
    visits: Any
    both: Any
    ends: Any
    final: Any


class Layout(NamedTuple):
    """A matrix on its channels.

    Attributes:
        pieces: those of full length, and the rest.
        per: outputs of a unit.
        groups: readings of its registers that they take, for each piece.
        units: units of a channel.
        channels: channels that hold a part of a copy.
        matrices: products, over all copies and vectors.
        turns: products that one channel goes through, one after another.
        openings: how often the busiest channel opens a row; one that has its bank to itself stays open.
        one_row: whether the whole part of a channel lies in one row, which then stays open.
    """

    pieces: tuple[Piece, Piece]
    per: Any
    groups: Any
    units: Any
    channels: Any
    matrices: Any
    turns: Any
    openings: Any
    one_row: Any


def layout(memory: Memory, work: Work, *, buffer_bytes: Any, registers: Any) -> Layout:
    """The layout of work: outputs spread over as many channels as there are for each copy.

    Keys of a score share rows if they are short; of a matrix of weights and of values each output has its own.
    """
    n_in, n_out, vectors, copies = (whole(value) for value in work[1:])
    banks, bits = memory.banks, memory.bits
    lanes = whole(banks.column_bytes * 8 / bits)
    together = banks.banks_per_unit if memory.level == "bank" else 1.0  # else a unit opens one bank after the other
    row = whole(banks.row_bytes * together * 8 / bits)
    units = whole(banks.banks / banks.banks_per_unit)
    share, rounds = shared(banks.channels, copies)
    per = ceil_div(n_out, units * share)
    longest = jnp.minimum(whole(buffer_bytes * 8 / bits), n_in)
    held = jnp.minimum(whole(registers), per)
    packed = jnp.maximum(row // (ceil_div(n_in, lanes) * lanes), 1) if work.operation == "score" else 1
    packed = jnp.where(longest == n_in, packed, 1)

    def piece(length: Any, count: Any) -> Piece:
        columns, rows = ceil_div(length, lanes), jnp.maximum(ceil_div(length, row), 1)
        last = jnp.where(packed > 1, packed * columns, columns - (rows - 1) * (row // lanes))
        visits = jnp.where(packed > 1, ceil_div(per, packed), per * rows)
        both = ceil_div(per, jnp.lcm(held, packed))
        ends = (per > held) & ((ceil_div(per, held) - 1) * held % packed == 0)
        final = jnp.where(packed > 1, (per - (visits - 1) * packed) * columns, last)
        numbers = (count, columns, rows, last, visits, both, ends, final)
        return Piece(*(jnp.asarray(number, jnp.float32) for number in numbers))

    full, rest = n_in // longest, n_in % longest
    pieces = (piece(longest, full), piece(jnp.maximum(rest, 1), jnp.where(rest > 0, 1, 0)))
    visits = sum(part.count * part.visits for part in pieces)
    turns = jnp.asarray(rounds, jnp.float32) * vectors
    one_row = visits == 1
    used = ceil_div(ceil_div(n_out, per), units)
    numbers = (per, ceil_div(per, held), units, used)
    per, groups, units, used = (jnp.asarray(number, jnp.float32) for number in numbers)
    rounds = jnp.asarray(rounds, jnp.float32)
    deep = 1.0 if memory.level == "bank" else banks.banks_per_unit  # banks of a unit that open one after another
    staying = jnp.clip(2 * deep - visits, 0, visits)  # rows that have a bank to themselves
    openings = rounds * visits + (turns - rounds) * (visits - staying)
    matrices = jnp.asarray(copies, jnp.float32) * vectors
    return Layout(pieces, per, groups, units, used, matrices, turns, openings, one_row)
