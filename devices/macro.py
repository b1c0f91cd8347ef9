"""An analog macro: arrays of cells with their converters, and the rules by which matrices are put on them."""

from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from pim.devices.array_wires import ArrayWires
from pim.devices.bit_line import BitLine
from pim.devices.cells.cell import Cell
from pim.devices.cells.read_noise import RectifiedReadNoise
from pim.devices.converters.adc import ADC
from pim.devices.converters.bit_serial_dac import BitSerialDAC
from pim.devices.converters.dac import DAC
from pim.devices.converters.pulse_width_dac import PulseWidthDAC
from pim.devices.cost_factors import CostFactors
from pim.devices.environment import ROOM, Environment
from pim.devices.errors import DeviceError
from pim.devices.hierarchy import Hierarchy
from pim.devices.periphery import Periphery
from pim.devices.random import DRAWS
from pim.devices.record import leaf, part, record, static
from pim.devices.remapping import Remapping
from pim.devices.supply import Supply


@record
class AnalogMacro:
    """What `pim.program` puts a matrix on: `rows` x `columns` arrays, as many as the matrix needs.

    The cells of an array take, for word-line levels u in [-1, 1] and conductances G,

        E_cells = duty t_read v_read^2 sum(u^2 G)      a read
    """

    rows: int = static("word lines of an array", low=1)
    columns: int = static("bit lines of an array", low=1)
    slices: int = static("cells along which the bits of a weight are sliced", low=1)
    encoding: str = static(
        "how signed weights live in cells",
        choices=(
            "differential",
            "differential_two_sided",
            "differential_digital",
            "offset",
            "offset_reference",
            "offset_digital",
        ),
    )
    weight_scale: str = static("what shares one weight scale", choices=("column", "matrix", "tile", "tile_column"))
    input_range: str = static("what sets the range of the inputs", choices=("calibrated", "token"))
    v_read: Float[Array, ""] = leaf("V", "word-line voltage of the largest input", low=1e-3, high=5)
    t_read: Float[Array, ""] = leaf("s", "time for which the inputs are applied a step", low=1e-12)
    vdd: Float[Array, ""] = leaf("V", "supply of converters and logic", low=0.1, high=5)
    cell: Cell = part("the cell")
    dac: DAC = part("input converter")
    weight_bits: Float[Array, ""] | None = leaf(
        "1", "bits of a weight, sign included; absent: continuous", low=2, high=16, default=None
    )
    adc: ADC | None = part("output converter; absent: sums are read exactly", default=None)
    bit_line: BitLine | None = part("what bit lines do to the sums on them; absent: nothing", default=None)
    wires: ArrayWires | None = part("resistance of word and bit lines; absent: none", default=None)
    periphery: Periphery | None = part("everything else that costs; absent: unknown", default=None)
    environment: Environment | None = part(
        "what temperature and supply do to the circuits; absent: nothing", default=None
    )
    weight_range: str = static(
        "what of the weights that share a scale takes the full conductance: the largest, or the mean magnitude, beyond "
        "which weights are cut off (ternary weights, with weight_bits = 2)",
        choices=("largest", "mean"),
        default="largest",
    )
    active_rows: int | None = static(
        "word lines driven at once, one group of an array after another; absent: all", low=1, default=None
    )
    slicing: str = static(
        "what the slices of a weight hold: its bits, or each what the more significant ones have missed of it",
        choices=("bits", "residual"),
        default="bits",
    )
    residual_gain: Float[Array, ""] = leaf(
        "1", "with residual slices: how much finer each is than the one before", low=1, default=8.0
    )
    read_phases: int = static(
        "reads that a signed product takes: 1, by sign of the input (2), and of the weight too (4)",
        choices=(1, 2, 4),
        default=1,
    )
    shift_add: str = static(
        "where input steps and weight slices are summed up: behind the converter (digital), or in front of it the "
        "steps, or all",
        choices=("digital", "steps", "all"),
        default="digital",
    )
    pipeline: str = static(
        "what overlaps: nothing, or reading, converting and adding up, each already on the next sum",
        choices=("none", "stages"),
        default="none",
    )
    supply: Supply | None = part(
        "what another supply does to energies given in J and to times; absent: nothing", default=None
    )
    duty: Float[Array, ""] = leaf(
        "1", "share of `t_read` for which the cells carry current", low=0, high=1, default=1.0
    )
    hierarchy: Hierarchy | None = part(
        "what arrays share with others in a tile and on a chip; absent: nothing", default=None
    )
    cost_factors: CostFactors | None = part("factors on a whole cost; absent: none", default=None)
    remapping: Remapping | None = part(
        "order of rows and columns by which stuck cells are avoided; absent: as they come", default=None
    )
    draws: str = static(
        "normal numbers that the noise of reads is drawn from", choices=tuple(DRAWS), meanings=DRAWS, default="float32"
    )

    def prepare(self) -> "AnalogMacro":
        """Itself, once it is known to make sense.

        Raises DeviceError for groups of word lines that do not fill an array, for residual slices with bits, and for
        wires that cannot be with the rest.
        """
        if self.active_rows is not None and self.rows % self.active_rows:
            raise DeviceError(
                f"active_rows = {self.active_rows} does not divide rows = {self.rows}: an array is read in equal groups"
            )
        if self.slicing == "residual" and self.weight_bits is not None:
            raise DeviceError(
                "slicing = 'residual' programs what is missing of a weight, which has no bits: take weight_bits = none "
                "(cell.levels rounds what a cell can take), or slicing = 'bits'"
            )
        if self.read_phases == 4 and not self.encoding.startswith("differential"):
            raise DeviceError(
                "read_phases = 4 reads the two columns of a pair one after the other, but encoding = "
                f"{self.encoding!r} has no pair of them: take 'differential', or read_phases = 2"
            )
        if self.wires is not None:
            self._check_wires(self.wires)
        if self.supply is not None:
            self.supply.check(self.vdd)
        if self.remapping is not None:
            self._check_remapping(self.remapping)
        return self

    def _check_remapping(self, remapping: Remapping) -> None:
        if self.wires is not None:
            raise DeviceError(
                "remapping moves rows and columns, and with wires it matters where they are: leave one of the two away"
            )
        if self.slicing == "residual":
            raise DeviceError(
                "remapping goes by what all slices hold, but slicing = 'residual' finds each from the one before as it "
                "came out: take slicing = 'bits', or leave remapping away"
            )
        if remapping.columns and self.encoding in ("offset", "offset_digital"):
            raise DeviceError(
                f"remapping of columns leaves reference columns where they are, and encoding = {self.encoding!r} has "
                "some among the others: take remapping.order = 'rows', or a differential encoding"
            )
        if remapping.spare_outputs and not remapping.columns:
            raise DeviceError(
                f"remapping.spare_outputs = {remapping.spare_outputs} are columns, and order = 'rows' moves none: take "
                "'columns' or 'both'"
            )

    def _check_wires(self, wires: ArrayWires) -> None:
        pair = self.encoding in ("differential", "differential_two_sided") and self.read_phases < 4
        if wires.pairs == "shared_bit_line" and not pair:
            raise DeviceError(
                "wires.pairs = 'shared_bit_line' subtracts the two cells of a pair on one bit line, but encoding = "
                f"{self.encoding!r} with read_phases = {self.read_phases} reads each column by itself: take encoding = "
                "'differential', or wires.pairs = 'interleaved'"
            )
        if wires.input == "gate" and not (isinstance(self.dac, BitSerialDAC) and self.dac.slice_bits == 1):
            raise DeviceError(
                "wires.input = 'gate' switches cells on and off: take a BitSerialDAC with slice_bits = 1, or "
                "wires.input = 'source'"
            )
        if self.solved_at_reads and isinstance(self.dac, PulseWidthDAC):
            raise DeviceError(
                "pulses of different widths make another circuit at every moment, and here one is solved for each "
                "read: take another dac, or wires.reads = 'folded' without cell.conduction"
            )
        if self.solved_at_reads and isinstance(self.cell.read_noise, RectifiedReadNoise):
            raise DeviceError(
                "cell.read_noise = RectifiedReadNoise is for sums; where the circuit is solved for each read no "
                "conductance goes below zero anyway: take its `noise` itself"
            )
        if wires.pairs == "shared_bit_line" and self.bends:
            raise DeviceError(
                "wires.pairs = 'shared_bit_line' has one line for a pair, and bit_line bends two: leave bit_line away, "
                "or take wires.pairs = 'separate'"
            )
        if self.solved_at_reads and self.bends:
            raise DeviceError(
                "the circuit of this array is solved up to its virtual grounds, and bit_line bends sums: leave one of "
                "wires and bit_line away"
            )

    @property
    def solved_at_reads(self) -> bool:
        """Whether currents are solved vector by vector: no effective conductances exist, or none are wanted."""
        wires = self.wires
        return wires is not None and (
            wires.input == "gate" or wires.reads == "solved" or self.cell.conduction is not None
        )

    @property
    def rows_at_once(self) -> int:
        """Word lines that one conversion sums over."""
        return self.rows if self.active_rows is None else self.active_rows

    @property
    def input_phases(self) -> int:
        """Reads of each input step by the sign of the input: two, if asked for and where levels have a sign."""
        return 2 if self.read_phases > 1 and self.dac.bipolar else 1

    @property
    def weight_phases(self) -> int:
        """Reads of each of those by the sign of the weight."""
        return 2 if self.read_phases == 4 else 1

    @property
    def reads(self) -> int:
        """Reads of an array that one input vector takes, one after another."""
        return self.dac.steps * self.input_phases * self.weight_phases

    @property
    def read_durations(self) -> int:
        """Time that the reads of one input vector take, in `t_read`."""
        return self.dac.durations * self.input_phases * self.weight_phases

    @property
    def conversion_times(self) -> int:
        """How often the sums of one input vector are converted: at each read, or once a phase (`shift_add`)."""
        return self.reads if self.shift_add == "digital" else self.input_phases * self.weight_phases

    @property
    def converted_slices(self) -> int:
        """Parts of a weight whose sums are converted: slices, unless they are added in front of the converter."""
        return 1 if self.shift_add == "all" else self.slices

    @property
    def temperature(self) -> Float[Array, ""] | None:
        """Temperature (K) of the chip; None: that at which everything was measured."""
        return None if self.environment is None else self.environment.temperature

    def at_temperature(self, temperature) -> "AnalogMacro":
        """The same macro at a temperature (K), which may be traced.

        Raises DeviceError if it is not known what that does to its cells.
        """
        if self.cell.temperature is None:
            raise DeviceError(
                "the cell of this device has no law of temperature: leave temperature=None, give it one "
                "(cell.temperature), or set environment.temperature for the circuits alone"
            )
        if self.environment is None:
            return self
        return replace(self, environment=replace(self.environment, temperature=temperature))

    def driven(self, levels: Float[Array, "*batch rows"]) -> Float[Array, "*batch driven_rows"]:
        """Word-line levels in [-1, 1] as what the cells' strengths (`Cell.strengths`) are multiplied by."""
        if self.cell.conduction is None:
            return levels
        return jnp.concatenate(self.dac.conducted(levels, self.cell.conduction, self.v_read), axis=-1) / self.v_read

    @property
    def bends(self) -> bool:
        """Whether bit lines hold another sum than that of their cells."""
        return self.bit_line is not None and self.bit_line.bends

    def line_variance(self) -> Float[Array, ""] | None:
        """Variance (cells^2) that a bit line adds at each read; None: nothing."""
        if self.bit_line is None:
            return None
        return self.bit_line.noise_variance(self.rows, ROOM if self.temperature is None else self.temperature)


@record
class Ideal:
    """The exact reference: the digital product to float rounding, free of charge."""
