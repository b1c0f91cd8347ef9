"""What a near-DRAM device costs: not known here, and not guessed."""

from pim.ledger import UNKNOWN, Ledger, ledger_of

NO_COST = (
    "computes in a known number format, but the timing and the energy of its DRAM commands are unknown, and so are the "
    "time, energy and area of a product: nothing is guessed"
)


def unknown_cost(operator: str = "product") -> Ledger:
    """A ledger whose figures are all unknown."""
    return ledger_of([("unknown", UNKNOWN, UNKNOWN, UNKNOWN)], operator)
