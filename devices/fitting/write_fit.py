"""Write error: its spread against the target, and the distribution about it: normal, Student-t or lognormal, by BIC."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student

from pim.devices.fitting.estimate import Estimator, LawFit, NotMeasured, Picture, Unknown, judge
from pim.devices.fitting.groups import units_of
from pim.devices.fitting.history import history
from pim.devices.fitting.spread import Spread, spread_at, spread_of
from pim.devices.fitting.table import Measurements
from pim.devices.fitting.weighted import QUARTILE, normal_scores, robust_spread, student_fit, student_logpdf

LEAST_WRITES = 40


@dataclass(frozen=True)
class Candidate:
    """A distribution of the deviations with a spread by target; what is fitted is the same for all three."""

    kind: str
    spread: Spread
    unit: str
    log_written: Float[np.ndarray, "data"]
    """ln G where deviations are of ln G, else zero: densities are those of G, so that likelihoods compare."""

    def estimator(self) -> Estimator:
        """The estimator of sigma_0, sigma_1, ..., bias and, for Student's distribution, nu."""
        spread, cells = self.spread, int(self.spread.cell_of.max()) + 1
        unknowns = [Unknown(f"sigma_{k}", self.unit, f"coefficient {k} of the spread") for k in range(spread.terms)]
        unknowns.append(Unknown("bias", self.unit, "median deviation from the target"))
        if self.kind != "student":
            return Estimator(unknowns, spread.cell_of, cells, spread.estimate, self.predict)
        unknowns.append(Unknown("nu", "1", "degrees of freedom: the tail index", positive=True))
        first = spread.estimate(np.ones((1, cells)))[0]
        _, tail = student_fit(self._standard(first), spread.cell_of, cells)
        both = lambda weights: np.concatenate([spread.estimate(weights), tail(weights)[:, None]], axis=1)
        return Estimator(unknowns, spread.cell_of, cells, both, self.predict)

    def _standard(self, values: np.ndarray) -> np.ndarray:
        terms = self.spread.terms
        return (self.spread.deviation - values[terms]) / spread_at(values[:terms], self.spread.u)

    def predict(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-likelihood (of G / S) and normal score of each datum."""
        z, log_sigma = self._standard(values), np.log(spread_at(values[: self.spread.terms], self.spread.u))
        if self.kind != "student":
            return norm.logpdf(z) - log_sigma - self.log_written, z
        wide = student.ppf(0.75, values[-1]) / QUARTILE
        return student_logpdf(z * wide, values[-1]) + np.log(wide) - log_sigma, normal_scores(
            student.cdf(z * wide, values[-1])
        )


LAWS = {
    "normal": "G - target is normal with standard deviation sigma(G)",
    "student": "G - target is Student-t with nu degrees of freedom, its quartiles those of a normal with sigma(G)",
    "lognormal": "ln(G / target) is normal with standard deviation sigma(G)",
}


def fit_write_error(table: Measurements, seed: int = 0, degree: int | None = None) -> LawFit:
    """The error of writing by target: sigma(G) = sum_k sigma_k (G / g_max)^k and the distribution about the target.

    Args:
        table: rows with `g_target_S` and the conductance after the last pulse, right after it where half of the writes
            have that, else as it was first read; writes that failed (`ok` = 0 in their last row) are left out.
        seed: of the bootstrap.
        degree: of the polynomial; None: by BIC.

    Raises:
        NotMeasured: fewer than 40 such writes.

    >>> fit_write_error(read_table("cells.csv"))["sigma_0"]
    """
    writes, _ = history(table)
    good = writes.success & np.isfinite(writes.written)
    good &= (writes.age == 0) if (writes.age[good] == 0).sum() >= max(good.sum() / 2, LEAST_WRITES) else True
    if good.sum() < LEAST_WRITES:
        raise NotMeasured(
            f"{good.sum()} writes have a target (g_target_S) and a conductance after; {LEAST_WRITES} are needed"
        )
    target, written = writes.target[good], writes.written[good]
    units = units_of(writes.cell[good], np.arange(good.sum()))
    reference = table.sidecar.g_max_S or float(target.max()) or float(np.abs(written).max())
    error = spread_of(written - target, target / reference, units.of, degree)
    none = np.zeros(len(target))
    candidates = [Candidate("normal", error, "S", none), Candidate("student", error, "S", none)]
    if (written > 0).all() and (target > 0).all():
        log = spread_of(np.log(written / target), target / reference, units.of, degree)
        candidates.append(Candidate("lognormal", log, "1", np.log(written)))
    estimators = {candidate.kind: candidate.estimator() for candidate in candidates}
    criteria = {kind: _bic(estimator) for kind, estimator in estimators.items()}
    best = min(candidates, key=lambda candidate: criteria[candidate.kind])
    equation = f"sigma(G) = sum of sigma_k (G / {reference * 1e6:.4g} µS)^k"
    fit = judge(
        estimators[best.kind], "write_error", f"{LAWS[best.kind]}; {equation}", seed,
        kind=best.kind, constants={"g_reference": reference}, criteria=criteria,
    )  # fmt: skip
    late = float(np.median(writes.age[good]))
    pictures, notes = (_picture(fit, best, reference),), (*units.notes, *_notes(fit, best, late))
    return replace(fit, cells=units.cells, pictures=pictures, notes=notes)


def _bic(estimator: Estimator) -> float:
    values = estimator.estimate(np.ones((1, estimator.cells)))[0]
    likelihood = estimator.predict(values)[0].sum()
    return float(len(estimator.unknowns) * np.log(len(estimator.cell_of)) - 2 * likelihood)


def _picture(fit: LawFit, best: Candidate, reference: float) -> Picture:
    spread = best.spread
    scale = 1e6 if best.unit == "S" else 1.0
    measured = robust_spread(spread.quartiles(np.ones((1, int(spread.cell_of.max()) + 1)))[0])
    u = np.linspace(spread.centres.min(), spread.centres.max(), 60)
    terms = spread.terms
    powers = np.vander(u, terms, increasing=True)
    mean = powers @ fit.values[:terms]
    half = 1.96 * np.sqrt(np.einsum("ij,jk,ik->i", powers, fit.covariance[:terms, :terms], powers))
    line = tuple(scale * values for values in (mean, mean - half, mean + half))
    return Picture(
        "Spread after writing", "target (µS)", "robust spread (µS)" if best.unit == "S" else "robust spread of ln G",
        points={"measured": (spread.centres * reference * 1e6, scale * measured)},
        lines={"fit, 95 % band": (u * reference * 1e6, *line)},
    )  # fmt: skip


def _notes(fit: LawFit, best: Candidate, late: float) -> tuple[str, ...]:
    notes = [f"conductances were first read {late:.3g} s after the last pulse: what happened until then is in it"]
    notes = notes if late > 0 else []
    share = fit["bias"] / float(spread_at(fit.values[: best.spread.terms], best.spread.u).mean())
    if abs(share) >= 0.1:
        notes.append(f"writing ends {share:+.0%} of the spread beside the target; a device's law has none of this bias")
    return tuple(notes)
