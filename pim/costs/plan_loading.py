"""Loading a whole model: every matrix of weights into the device that holds it, one after another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pim.costs.ledger import Ledger, join, quantity
from pim.costs.lifetime import Endurance, Lifetime, lifetime
from pim.llm_workloads.operators import Phase, Product, products
from pim.mapping.fit import ARRAYS
from pim.mapping.plan import Plan


@dataclass(frozen=True, eq=False)
class PlanLoading:
    """Writing all weights of a model into the devices of its system once, matrix after matrix. NaN is unknown.

    `loadings` has a `Loading` for each device that holds weights, over its operators; `operators` names them.
    """

    loadings: Mapping[str, Any]
    operators: Mapping[str, tuple[str, ...]]

    def _sum(self, figure: str) -> float:
        return float(sum(np.sum(getattr(each, figure)) for each in self.loadings.values()))

    @property
    def cells(self) -> float:
        """Cells (or bits of memories) that are written."""
        return self._sum("cells")

    @property
    def bits(self) -> float:
        """Bits read from the memory outside."""
        return self._sum("bits")

    @property
    def energy(self) -> float:
        """J."""
        return self._sum("energy")

    @property
    def write_energy(self) -> float:
        """J of writing alone."""
        return self._sum("write_energy")

    @property
    def time(self) -> float:
        """s, matrices one after another."""
        return self._sum("time")

    @property
    def endurance(self) -> Endurance:
        """Of the device that can be loaded least often, of those where that is known; the basis names the others."""
        known = [each.endurance for each in self.loadings.values() if each.endurance.writes is not None]
        if not known:
            return Endurance(None, "not known of any device that holds weights")
        least = min(known, key=lambda each: each.writes or 0.0)
        others = [name for name, each in self.loadings.items() if each.endurance.writes is None]
        return replace(least, basis=f"{least.basis}; not known of {', '.join(others)}") if others else least

    @property
    def wear(self) -> float | None:
        """Largest share of a known endurance that one loading takes; None: unknown."""
        shares = [each.wear for each in self.loadings.values() if each.wear is not None]
        return max(shares, default=None)

    def lifetime(self, loadings_per_second: float) -> Lifetime:
        """Time until the first device's endurance is used up, if the model is loaded so often."""
        return lifetime(self.endurance, loadings_per_second)

    @property
    def ledger(self) -> Ledger:
        """Rows "memory" and "write" of every operator."""
        return join(each.ledger.spread(self.operators[name]) for name, each in self.loadings.items())

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, device by device."""
        return tuple(f"{name}: {note}" for name, each in self.loadings.items() for note in each.notes)

    def summary(self) -> str:
        """The figures that matter in a line."""
        wear = "wear unknown" if self.wear is None else f"{self.wear:.2g} of the endurance"
        return f"{quantity(self.energy, 'J')}, {quantity(self.time, 's')}, {wear}"

    def to_dict(self) -> dict[str, Any]:
        """Totals and devices as plain values, ready for JSON; None: unknown."""
        figures = ("cells", "bits", "energy", "write_energy", "time")
        totals = {name: None if np.isnan(value := getattr(self, name)) else value for name in figures}
        devices = {
            name: {"operators": list(self.operators[name])} | each.to_dict() for name, each in self.loadings.items()
        }
        return {**totals, "endurance": self.endurance.counted, "wear": self.wear, "devices": devices}

    def __str__(self) -> str:
        totals = [f"the whole model: {self.summary()}", f"{self.endurance}"]
        devices = [
            f"{name}: {float(np.sum(each.cells)):,.0f} cells, {quantity(float(np.sum(each.energy)), 'J')}, "
            f"{quantity(float(np.sum(each.time)), 's')}"
            for name, each in self.loadings.items()
        ]
        return "\n".join([*totals, *devices, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__


def plan_loading(plan: Plan, load: Callable[[Any, tuple[Any, Any]], Any]) -> PlanLoading:
    """The loading of a plan; `load(device, (n_in, n_out))` is the loading of matrices into one device."""
    static = [product for product in products(plan.config, Phase()) if not product.dynamic]
    loadings, operators = {}, {}
    for name, device in plan.system.devices.items():
        mine = [product for product in static if plan.assignment[product.path] == name]
        mine = [product for product in mine for _ in range(int(product.copies) * _copies(plan, name, product))]
        if mine:
            loadings[name] = load(device, (np.array([p.n_in for p in mine]), np.array([p.n_out for p in mine])))
            operators[name] = tuple(product.path for product in mine)
    return PlanLoading(loadings, operators)


def _copies(plan: Plan, name: str, product: Product) -> int:
    """How often a matrix lies in a device."""
    return plan.system.copies_of(product.path) if isinstance(plan.system.devices[name].model, ARRAYS) else 1
