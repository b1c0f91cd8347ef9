"""A chip: one programmed instance of a device holding given weights."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, UInt32

from pim import crossbar as engine
from pim.compensation import compensate
from pim.costs.digital_operands import DigitalOperands, measure_digital_operands
from pim.costs.operands import Operands, measure_operands
from pim.crossbar import Crossbar
from pim.devices.arithmetic import Codes
from pim.devices.digital_macro import DigitalMacro
from pim.devices.errors import DeviceError
from pim.devices.macro import AnalogMacro
from pim.devices.random import chip_keys, is_many
from pim.devices.record import leaf, part, record
from pim.diagnosis import Diagnosis, diagnose
from pim.formulation import Formulation
from pim.holding import check_matrix, hold_matrix, program_cells, reading_time
from pim.inputs import check_inputs
from pim.spice_export import export_spice


@record
class Chip:
    """A matrix programmed into a device: its write errors, mismatch and faults are frozen in it.

    Attributes of interest: `time` (s since programming), `crossbar` (the programmed cells; None without analog cells),
    `held` (what a digital device has made of the matrix; None on an exact one). Many chips of one matrix (`program`
    with `chips`) are a Chip too, whose `key` and cells have a leading axis; `chips[c]` is one of them.
    """

    weights: Float[Array, "n_in n_out"] = leaf("1", "the weights it was asked to hold")
    model: object = part("model of the device")
    key: Key[Array, "*chips"] = leaf("1", "key of the chip, or of each of many")
    time: Float[Array, ""] | None = leaf("s", "time since programming; None: its device does not age")
    temperature: Float[Array, ""] | None = leaf("K", "temperature; None: that at which its laws were measured")
    crossbar: Crossbar | None = part("the programmed cells")
    held: object = part("what a digital device stores of the matrix", default=None)
    cycle: UInt32[Array, ""] = leaf("1", "how often it was written before", default=np.uint32(0))

    def __len__(self) -> int:
        """How many chips it is."""
        return self.key.shape[0] if is_many(self.key) else 1

    def __getitem__(self, chip: int) -> "Chip":
        """One of many chips, by its number; its reads are those of the key `chip_key(key, chip)`."""
        if not is_many(self.key):
            raise DeviceError("this is a single chip: program it with chips=n for many")
        if not -len(self) <= chip < len(self):
            raise IndexError(f"chip {chip} of {len(self)}")
        crossbar, held = jax.tree.map(lambda leaf: leaf[chip], (self.crossbar, self.held))
        return replace(self, key=self.key[chip], crossbar=crossbar, held=held)

    @property
    def formulation(self) -> Formulation | None:
        """How its products are computed, and why so (see `pim.formulation`); None without analog cells."""
        return None if self.crossbar is None else self.crossbar.formulation

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about its numbers: whether its time lies between measured ones. A traced time has no notes."""
        if self.crossbar is None or any(
            isinstance(v, Tracer) for v in jax.tree.leaves((self.time, self.temperature, self.model))
        ):
            return ()
        assert isinstance(self.model, AnalogMacro)
        temperature = self.model.temperature if self.temperature is None else self.temperature
        between = self.model.cell.interpolation(self.time, temperature)
        return () if between is None else (between,)

    def at(self, time, temperature=None) -> "Chip":
        """The same chip later: a path of its cells, not a new draw.

        Args:
            time: time since programming in s; may be traced (outside the measured times a traced one gives NaN).
            temperature: in K, may be traced; None is the temperature at which the device was measured.

        Converters, references and leakage follow the temperature if the device has an `environment`.

        Raises DeviceError if `time` is outside the measured times of the device, or if it has no law of ageing or, for
        a temperature, none of temperature.
        """
        if self.crossbar is None:
            return self
        assert isinstance(self.model, AnalogMacro)
        model = self.model
        if temperature is not None:
            temperature = jnp.asarray(temperature, jnp.float32)
            model = model.at_temperature(temperature)
        chip = replace(self, model=model)
        return chip._programmed(self.weights, self.cycle, reading_time(model, time, temperature), temperature)

    def rewrite(
        self, weights: Float[ArrayLike, "n_in n_out"] | None = None, *, cycle=None, time: float | None = None
    ) -> "Chip":
        """The same chip written once more, with the same weights or others of the same shape.

        What differs from device to device stays: variation, faults, wear, the paces of drift, converters and their
        ranges. What differs from cycle to cycle is new: write error, relaxation and slow noise. Its time begins anew, a
        compensation is gone. The writes that wear its cells are counted.

        Args:
            weights: what it is to hold; by default what it holds.
            cycle: how often it was written before, 0 for `program` itself (may be traced): the same cycle gives the
                same cells whatever came before. By default one more than now.
            time: s since this writing at which it is read; by default the reference time of the device.

        >>> again = chip.rewrite()
        >>> cycles = [chip.rewrite(cycle=k).matmul(x, key=None) for k in range(100)]
        """
        weights = self.weights if weights is None else jnp.asarray(weights, jnp.float32)
        if weights.shape != self.weights.shape:
            raise DeviceError(f"weights has the shape {weights.shape}; this chip holds {self.weights.shape}")
        check_matrix(weights, "weights")
        cycle = self.cycle + 1 if cycle is None else cycle
        if not isinstance(cycle, Tracer) and (int(cycle) != cycle or cycle < 0):
            raise DeviceError(f"cycle = {cycle} is no number of writings; give a whole number, 0 or more")
        cycle = jnp.asarray(cycle).astype(jnp.uint32)
        if self.crossbar is None:
            held = None if self.held is None else hold_matrix(weights, self.model, self.key)
            return replace(self, weights=weights, cycle=cycle, held=held)
        assert isinstance(self.model, AnalogMacro)
        when = reading_time(self.model, time, self.temperature)
        return self._programmed(weights, cycle, when, self.temperature)

    def _programmed(self, weights, cycle, time, temperature) -> "Chip":
        """This chip with its cells as they are at another time or writing."""
        assert self.crossbar is not None
        ranges = self.crossbar.ranges
        if ranges is not None and is_many(self.key):
            ranges = jax.tree.map(lambda leaf: leaf[0], ranges)  # found on the nominal matrix: the same in all chips
        how = self.crossbar.formulation
        cells = program_cells(weights, self.model, self.key, time, temperature, ranges, cycle, how)
        return replace(self, weights=weights, cycle=cycle, time=time, temperature=temperature, crossbar=cells)

    def compensate(
        self,
        kind: str = "global",
        *,
        since: float,
        x: Float[ArrayLike, "n n_in"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> "Chip":
        """The same chip with a digital gain that undoes the loss since an earlier readout.

        Args:
            kind: "global", one gain for the matrix, or "column", one for each output.
            since: time of the earlier readout, in s since programming.
            x: inputs of the readout; by default the identity, each cell on its own.
            key: key of the readout's noise; None reads without.

        Raises DeviceError if the device does not age or the kind is unknown.

        >>> chip.at(86400.0).compensate(since=0.0)
        """
        return compensate(self, kind, since=since, x=x, key=key)

    def matmul(
        self,
        x: Float[ArrayLike, "*batch n_in"],
        *,
        key: Key[Array, ""] | None,
        rows: Int[ArrayLike, "*batch"] | None = None,
    ) -> Float[Array, "*chips_and_batch n_out"]:
        """The product x W with all the errors of this chip; of many chips, with a leading axis of chips.

        Args:
            x: inputs; any leading dimensions.
            key: key of the reads; None reads without noise. Chip c of many reads with `chip_key(key, c)`.
            rows: identity of each input vector, which decides its draws; by default its place in `x`.

        Raises DeviceError if the width of `x` is not that of the matrix, or if wires resist so that the circuit of a
        vector has no solution that could be found (in jitted code its products are NaN).
        """
        x = jnp.asarray(x, jnp.float32)
        flat, pairs = self._vectors(x, rows)
        if not is_many(self.key):
            y = _matmul(self.weights, self.crossbar, self.held, self.model, flat, pairs, key)
            check_solved(y, self.model)
            return y.reshape(*x.shape[:-1], -1)
        y = _matmul_many(self.weights, self.crossbar, self.held, self.model, flat, pairs, key, len(self))
        check_solved(y, self.model)
        return y.reshape(len(self), *x.shape[:-1], -1)

    def diagnose(
        self,
        x: Float[ArrayLike, "*batch n_in"],
        *,
        key: Key[Array, ""] | None,
        rows: Int[ArrayLike, "*batch"] | None = None,
    ) -> Diagnosis:
        """The product x W with what happens on the way: clipped conversions, codes, noise by tile and by source.

        Args:
            x: inputs; any leading dimensions.
            key: key of the reads, as for `matmul`; None reads without noise.
            rows: identity of each input vector, as for `matmul`.

        Raises DeviceError for a device without analog cells, for many chips, and as `matmul` does.

        >>> print(chip.diagnose(x, key=jax.random.key(1)))
        """
        x = jnp.asarray(x, jnp.float32)
        return diagnose(self, x, *self._vectors(x, rows), key)

    def _vectors(self, x: Float[Array, "*batch n_in"], rows) -> tuple[Float[Array, "n n_in"], UInt32[Array, "n 2"]]:
        """The input vectors one a row, and the (document, position) of each."""
        n_in = self.weights.shape[0]
        if x.ndim < 1 or x.shape[-1] != n_in:
            raise DeviceError(f"x has the shape {x.shape}; its last axis must be {n_in}, the inputs of this matrix")
        flat = x.reshape(-1, n_in)
        ids = jnp.arange(flat.shape[0]) if rows is None else jnp.asarray(rows).reshape(-1)
        if ids.shape[0] != flat.shape[0]:
            raise DeviceError(f"rows has {ids.shape[0]} entries; x has {flat.shape[0]} vectors")
        if isinstance(self.model, AnalogMacro):
            check_inputs(self.model, flat, "x")
        return flat, jnp.stack([jnp.zeros(ids.shape, jnp.uint32), ids.astype(jnp.uint32)], axis=1)

    def export_spice(
        self,
        path: Path | str,
        *,
        tile: int = 0,
        array: int = 0,
        x: Float[ArrayLike, "n_in"] | None = None,
        read: int = 0,
    ) -> None:
        """Write one array of this chip as a SPICE netlist: its cells, wires and drivers (ngspice prints the currents).

        Args:
            path: of the netlist.
            tile: which group of rows is driven; the other rows of its array are at 0 V.
            array: which of the arrays that hold the tile's outputs; those of a pair in separate arrays alternate.
            x: the input vector; by default every word line is at its full voltage.
            read: which of the reads that the vector takes.

        Raises DeviceError for a chip without analog cells, many chips, or a number that is too large.

        >>> chip.export_spice("array.cir", x=x[0])  # then: ngspice -b array.cir
        """
        export_spice(self, path, tile=tile, array=array, x=x, read=read)

    def operands(self, x: Float[ArrayLike, "*batch n_in"]) -> Operands | DigitalOperands:
        """Statistics of the inputs `x` on this chip's cells, for `pim.cost`.

        Of an analog macro these are `Operands`, of a digital one `DigitalOperands`.

        Raises DeviceError for other devices, and for many chips.
        """
        if isinstance(self.model, DigitalMacro):
            if is_many(self.key):
                raise DeviceError("operands are measured on one chip: take chips[0].operands(x)")
            flat, _ = self._vectors(jnp.asarray(x, jnp.float32), None)
            assert isinstance(self.held, Codes), "what a digital macro holds"
            return _digital_operands(self.held, self.model, flat)
        if self.crossbar is None:
            raise DeviceError("an exact device has no cells whose energy depends on its operands")
        if is_many(self.key):
            raise DeviceError("operands are measured on one chip: take chips[0].operands(x)")
        assert isinstance(self.model, AnalogMacro)
        flat = jnp.asarray(x, jnp.float32).reshape(-1, self.weights.shape[0])
        check_inputs(self.model, flat, "x")
        return measure_operands(self.crossbar, self.model, flat)


def check_solved(y: Array, model: object) -> None:
    """Raise DeviceError where the circuit of an array with resistive wires was not solved, which left NaN."""
    if not isinstance(model, AnalogMacro) or model.wires is None or isinstance(y, Tracer):
        return
    bad = int((~jnp.isfinite(y)).any(axis=-1).sum())
    if bad:
        raise DeviceError(
            f"the circuit of the arrays was not solved for {bad} of {y[..., 0].size} vectors, to a residual of "
            f"wires.tolerance = {float(model.wires.tolerance):g}: inputs that are not finite, a tolerance below what "
            "float32 can hold (1e-6 is safe), or cells that conduct far better than their wires"
        )


_digital_operands = jax.jit(measure_digital_operands)


@jax.jit
def _matmul(weights, programmed, held, model, x, rows, key):
    if held is not None:
        return model.multiply(held, x)
    if programmed is None:
        return jnp.matmul(x, weights, precision=jax.lax.Precision.HIGHEST)
    return engine.matmul(programmed, model, x, rows, key)


@partial(jax.jit, static_argnames="chips")
def _matmul_many(weights, programmed, held, model, x, rows, key, chips):
    def one(each):
        return _matmul(weights, *each[:2], model, x, rows, each[2])

    if programmed is None and held is None:
        exact = one((None, None, None))
        return jnp.broadcast_to(exact[None], (chips, *exact.shape))
    return jax.lax.map(one, (programmed, held, None if key is None else chip_keys(key, chips)))
