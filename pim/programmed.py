"""Crossbar: what of a programmed matrix a product needs."""

from jaxtyping import Array, Float, Int32, Shaped, UInt32

from pim.circuit.sums import HeldCells
from pim.devices.record import leaf, part, record, static
from pim.formulation import ANALOG, Formulation
from pim.ranges import Ranges


@record
class Crossbar:
    """A matrix programmed into arrays: what of a chip a product needs."""

    weights: Float[Array, "*layers tiles driven_rows columns"] | Shaped[Array, "..."] = leaf(
        "1",
        "signed weights of the cells, of all slices; for each term of their current against voltage; in formulations "
        "of whole numbers what `pim/whole_sums.py` makes of them; None before its tiles are programmed",
    )
    variance: Float[Array, "*layers tiles #rows #columns"] | None = leaf(
        "1", "read-noise variance of each; None: no noise"
    )
    gains: Float[Array, "*layers slices"] = leaf("1", "what each slice counts in the digital sum")
    scale: Float[Array, "*layers #tiles n_out"] = leaf("1", "weight of full conductance, by output, or by tile too")
    conductance: Float[Array, "*layers tiles rows"] = leaf("S", "sum of the conductances along each word line")
    ranges: Ranges | None = leaf("1", "converter ranges; None: full ranges")
    adcs: Float[Array, "*layers tiles numbers slices columns"] | None = leaf(
        "1", "standard normal numbers of the ADC behind each column; None: all are alike"
    )
    dacs: Float[Array, "*layers numbers n_in"] | None = leaf(
        "1", "standard normal numbers of the DAC of each word line; None: all are alike"
    )
    offset: Float[Array, "*layers"] | None = leaf("1", "what the digital sum of the inputs counts less; None: nothing")
    layer: Int32[Array, "*layers"] = leaf("1", "index of the layer, for the keys of reads")
    operator: UInt32[Array, "*layers"] = leaf("1", "number of the operator's name, for the keys of reads")
    n_in: int = static("inputs")
    device: str = static("name of the device in its system")
    formulation: Formulation = static("how products with it are computed", default=ANALOG)
    cells: HeldCells | None = part(
        "where every vector needs a circuit solved: the cells; `weights` have no wires", default=None
    )
