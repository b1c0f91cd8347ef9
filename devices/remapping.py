"""Rows and columns of an array in another order, so that stuck cells fall on weights that are near what they hold.

A test of the chip tells which cells are stuck, and at what; a permutation of the inputs or of the outputs of a tile
changes no product. Sources: Xia et al., Stuck-at fault tolerance in RRAM computing systems, IEEE JETCAS 8(1), 2018
(mapping by matching, and redundant columns); Chen et al., Accelerator-friendly neural-network training: learning
variations and defects in RRAM crossbar, DATE 2017 (bipartite matching of rows to what an array can hold).
"""

from pim.devices.record import record, static

ORDERS = {
    "rows": "rows of a tile, whose inputs come in that order",
    "columns": "outputs of each array, behind whose converters they are put in order",
    "both": "rows first, then columns",
}


@record
class Remapping:
    """What is put in another order, and outputs of each array that are there to be spared.

    Spares stand beside the `columns` of an array; those that are not needed are not read.

    >>> pim.replace(pim.preset("rram-wan2022"), {"remapping": Remapping("columns", spare_outputs=1)})
    """

    order: str = static("what is put in another order", choices=tuple(ORDERS), meanings=ORDERS, default="rows")
    spare_outputs: int = static("outputs that an array has beyond those it holds", low=0, default=0)

    @property
    def rows(self) -> bool:
        """Whether rows are moved."""
        return self.order != "columns"

    @property
    def columns(self) -> bool:
        """Whether columns are moved."""
        return self.order != "rows"
