"""A run as silicon: cells and what is around them, dies and their yield, rates and energies by area and power.

Dies are at most as large as a reticle. The yield of one is that of defects which cluster (negative binomial: C. H.
Stapper, IBM J. Res. Dev. 27(6), 1983), in the limit of no clusters Poisson's; spare arrays take the place of bad ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binom

from pim.costs.ledger import quantity
from pim.devices.digital_macro import DigitalMacro
from pim.devices.macro import AnalogMacro
from pim.errors import StudyError
from pim.llm_workloads.operators import Phase, products
from pim.mapping.fit import Fit, fit_of
from pim.mapping.plan import Plan
from pim.units import plain, significant

if TYPE_CHECKING:
    from pim.costs.plan_cost import PlanCost

RETICLE = 858e-6
"""Largest die (m^2): 26 mm x 33 mm, the field of a scanner."""
DEFECTS = 1000.0
"""Defects a m^2 (0.1 a cm^2): chosen, not measured; give those of a process."""
CLUSTERING = 3.0
"""Stapper's alpha, chosen: smaller, and defects come in denser clusters."""
IDLE = ("leakage", "static")
"""Components of a ledger that take energy by being there."""


@dataclass(frozen=True, repr=False)
class Silicon:
    """What a run takes in silicon, and what it gives for it.

    Attributes:
        arrays: by device, the arrays that hold its weights, and how much of them is filled.
        cells: memory cells in those arrays.
        area: m^2 of all devices, converters and periphery among them; NaN where one does not tell its own.
        reticles: area over that of a reticle.
        dies: dies of equal size, none larger than a reticle.
        die_yield: share of dies that are good, spare arrays in place of bad ones.
        tokens_per_second_mm2: written tokens a second and mm^2.
        operations_per_joule: multiplications and additions of the products of a written token, over its energy.
        idle_energy_per_token: J of a written token that go to leakage and to devices at rest.
        spares: spare arrays, as a share of those in use.
        defects: a m^2.
    """

    arrays: dict[str, Fit]
    cells: int
    area: float
    reticles: float
    dies: float
    die_yield: float
    tokens_per_second_mm2: float
    operations_per_joule: float
    idle_energy_per_token: float
    spares: float
    defects: float

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values, ready for JSON; what is unknown is None."""
        arrays = {name: {**vars(fit), "utilisation": fit.utilisation} for name, fit in self.arrays.items()}
        return {"arrays": arrays} | {k: plain(np.asarray(v)) for k, v in vars(self).items() if k != "arrays"}

    def __str__(self) -> str:
        lines = [
            *(
                (f"arrays of {name}", f"{fit.arrays:,}, {fit.utilisation:.1%} filled")
                for name, fit in self.arrays.items()
            ),
            ("cells", f"{self.cells:,}"),
            ("area", _known(f"{self.area * 1e6:.4g} mm²", self.area)),
            ("reticles of 858 mm²", _known(significant(self.reticles), self.reticles)),
            ("dies", _known(f"{self.dies:.0f}, yield {self.die_yield:.1%}", self.dies)),
            ("tokens/s/mm²", _known(significant(self.tokens_per_second_mm2), self.area)),
            ("TOPS/W, all told", _known(significant(self.operations_per_joule * 1e-12), self.operations_per_joule)),
            ("idle energy per token", quantity(self.idle_energy_per_token, "J")),
        ]
        return "\n".join(f"{name:<24}{value:>24}" for name, value in lines)

    __repr__ = __str__


def _known(text: str, value: float) -> str:
    return "unknown" if np.isnan(value) else text


def silicon(run: "PlanCost", plan: Plan, *, spares: float = 0.0, defects: float = DEFECTS) -> Silicon:
    """What a run takes in silicon.

    Args:
        run: the cost of a plan.
        plan: the plan.
        spares: spare arrays on each die, as a share of those in use; their area counts.
        defects: a m^2, each of which spoils the array that it hits or, where there are no arrays, the die.

    Raises:
        StudyError: a share or a density below zero.
    """
    if not (np.isfinite(spares) and np.isfinite(defects) and spares >= 0 and defects >= 0):
        raise StudyError(f"spares = {spares} and defects = {defects} must be finite, and 0 or more")
    arrays = {
        name: fit_of(plan.config, plan.assignment, name, device.model, plan.system.copies_of)
        for name, device in plan.system.devices.items()
        if isinstance(device.model, AnalogMacro | DigitalMacro)
    }
    area = run.area * (1 + spares) if arrays else run.area
    dies = np.ceil(area / RETICLE)
    in_use = max(round(sum(fit.arrays for fit in arrays.values()) / dies), 1) if arrays and dies == dies else 1
    decode = run.decode.ledger
    idle = np.isin(decode.components, IDLE)
    operations = 2 * sum(p.macs for p in products(plan.config, Phase(context=run.prompt + (run.generate + 1) / 2)))
    return Silicon(
        arrays=arrays,
        cells=sum(_cells(plan.system.devices[name].model) * fit.arrays for name, fit in arrays.items()),
        area=area,
        reticles=area / RETICLE,
        dies=float(dies),
        die_yield=die_yield(area / dies, in_use, round(in_use * spares) if arrays else 0, defects),
        tokens_per_second_mm2=run.tokens_per_second / (area * 1e6),
        operations_per_joule=float(operations) / run.energy_per_token,
        idle_energy_per_token=float(np.asarray(decode.energy)[idle].sum()) / run.decode_tokens,
        spares=spares,
        defects=defects,
    )


def die_yield(area: float, arrays: int, spares: int, defects: float, clustering: float = CLUSTERING) -> float:
    """The share of dies of an area (m^2) on which no more arrays are bad than there are spare ones.

    An array is good with the probability that its part of the area has no defect; arrays fail independently.

    >>> die_yield(1e-4, 1, 0, 1000.0)  # one cm^2, 0.1 defects
    0.9063...
    """
    every = arrays + spares
    good = (1 + area * defects / every / clustering) ** -clustering
    return float(binom.cdf(spares, every, 1 - good))


def _cells(macro: AnalogMacro | DigitalMacro) -> int:
    """Memory cells of an array."""
    if isinstance(macro, DigitalMacro):
        return macro.rows * macro.row_groups * macro.outputs * int(macro.weight_bits)
    return macro.rows * macro.columns
