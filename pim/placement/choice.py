"""A placement that was chosen, and the reason for each part of it."""

from dataclasses import dataclass
from typing import Any

from pim.costs.ledger import quantity, square_millimetres
from pim.costs.plan_cost import PlanCost
from pim.mapping.plan import Plan
from pim.units import plain


@dataclass(frozen=True)
class Reason:
    """Why a group of operators is where it is.

    Attributes:
        group: its name.
        operators: their kinds.
        prefill, decode: devices, while prompts are read and while tokens are written.
        energy: J that it takes there in the run, with what its arrays leak.
        latency: s that it takes there in the run.
        loss: nats a token that it alone loses there; None where nobody asked.
        runner_up: what the whole would cost with this group in the next best place; None: there is none.
        runner_up_at: that place.
        others: what speaks against each other device.
    """

    group: str
    operators: tuple[str, ...]
    prefill: str
    decode: str
    energy: float
    latency: float
    loss: float | None
    runner_up: float | None
    runner_up_at: str
    others: dict[str, str]

    @property
    def at(self) -> str:
        """Its device, or both."""
        return place_name(self.prefill, self.decode)


@dataclass(frozen=True, repr=False)
class Choice:
    """A plan that was chosen of all that a system allows.

    Attributes:
        plan: the plan, with the ranges of its converters if it needs any.
        cost: what it costs.
        minimise: the figure that was to be small.
        within: the limits.
        value: of that figure.
        loss: nats a token beyond the exact model, measured on the plan as a whole; None where nobody asked.
        estimate: the sum of what its groups lose alone.
        reasons: one for each group.
        tried: placements that were priced.
        exact: whether those were all there are; else the best of local searches from every device.
        repairs: measured losses of placements that seemed to keep the limit and did not.

    Example:
        >>> choice = pim.choose("llama-2-7b", system, minimise="energy", within={"decode_latency": 0.05})
        >>> print(choice)
        >>> choice.plan, choice.cost.energy_per_token, choice.reasons[0].others
    """

    plan: Plan
    cost: PlanCost
    minimise: str
    within: dict[str, float]
    value: float
    loss: float | None
    estimate: float | None
    reasons: tuple[Reason, ...]
    tried: int
    exact: bool
    repairs: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What was chosen and why as plain values, ready for JSON; what is unknown is None."""
        rows = [
            {name: plain(value) if isinstance(value, float) else value for name, value in vars(reason).items()}
            | {"operators": list(reason.operators), "others": dict(reason.others)}
            for reason in self.reasons
        ]
        told = {"minimise": self.minimise, "within": dict(self.within), "value": plain(self.value), "loss": self.loss,
                "estimate": self.estimate, "tried": self.tried, "exact": self.exact,
                "repairs": list(self.repairs)}  # fmt: skip
        return {**told, "rules": [list(rule) for rule in self.plan.system.rules], "reasons": rows}

    def __str__(self) -> str:
        lines = [f"{self.minimise} {printed(self.minimise, self.value)}, the least of {self._tried()}"]
        lines += [
            f"{name} {printed(name, self._figure(name))}, limit {printed(name, v)}" for name, v in self.within.items()
        ]
        if self.repairs:
            lines.append(f"{len(self.repairs)} placements that seemed to lose too little lost too much when emulated")
        head = ("operators", "device", "energy", "time", "loss", "next best")
        table = [(r.group, r.at, quantity(r.energy, "J"), quantity(r.latency, "s"),
                  "" if r.loss is None else f"{r.loss:.4f}", self._next(r)) for r in self.reasons]  # fmt: skip
        widths = [max(len(row[i]) for row in (head, *table)) for i in range(len(head))]
        for reason, row in zip((None, *self.reasons), (head, *table), strict=True):
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
            if reason is not None:
                lines += [f"    not {name}: {why}" for name, why in reason.others.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _tried(self) -> str:
        every = "all " if self.exact else "local searches over "
        return f"{every}{self.tried:,} placements of {self.plan.system.name}"

    def _figure(self, name: str) -> float:
        return float("nan" if self.loss is None else self.loss) if name == "loss" else getattr(self.cost, name)

    def _next(self, reason: Reason) -> str:
        if reason.runner_up is None:
            return "none"
        return f"{reason.runner_up_at}: {printed(self.minimise, reason.runner_up)}"


UNITS = {
    "energy": "J", "latency": "s", "prefill_latency": "s", "decode_latency": "s", "energy_per_token": "J"
}  # fmt: skip


def printed(name: str, value: float) -> str:
    """A figure by its name, printed.

    >>> printed("area", 5e-5), printed("loss", 0.02)
    ('50 mm²', '0.02 nats a token')
    """
    if name == "area":
        return square_millimetres(value)
    return quantity(value, UNITS[name]) if name in UNITS else f"{value:.4g} nats a token"


def place_name(prefill: str, decode: str) -> str:
    """A device, or both of those on which a group is in the two phases."""
    return prefill if prefill == decode else f"{prefill}, then {decode}"
