"""Factors on a whole cost: what a model is known to miss, in sight and on every row alike."""

from jaxtyping import Array, Float

from pim.devices.record import leaf, record


@record
class CostFactors:
    """Factors on every row of a cost, so that totals, ledger and efficiency agree.

    Tools have applied theirs to one output only: NeuroSim V1.4's printed energy leaves out the 1.22 (post layout) that
    its printed TOPS/W has.
    """

    energy: Float[Array, ""] = leaf("1", "factor on every energy", low=1e-3, high=1e3, default=1.0)
    latency: Float[Array, ""] = leaf("1", "factor on every time", low=1e-3, high=1e3, default=1.0)
    area: Float[Array, ""] = leaf("1", "factor on every area", low=1e-3, high=1e3, default=1.0)
