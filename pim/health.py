"""Is this machine's software fit to be believed? What is installed, and whether it computes right."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from pim._version import __version__

if TYPE_CHECKING:
    from pim.canary import Finding

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "xarray", "matplotlib", "safetensors", "tokenizers")

KNOWN_BAD = {
    "0.10.2": "computes wrong sums in silence on the CPU (jax-ml/jax issue 39103)",
    "0.11.0": "crashes or hangs on sums of many-dimensional products on the CPU (jax-ml/jax issue 39257)",
    "0.11.1": "is not known to be free of the faults of 0.11.0 (jax-ml/jax issue 39257)",
}
REMEDY = "python -m pip install 'jax>=0.9,!=0.10.2,!=0.11.0,!=0.11.1'"


@dataclass(frozen=True)
class Report:
    """What the doctor found."""

    versions: dict[str, str]
    findings: "tuple[Finding, ...]"
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether results of this installation can be believed."""
        return not self.problems

    @property
    def lines(self) -> list[str]:
        """The report as text, a line each."""
        width = max(len(name) for name in [*self.versions, *(finding.name for finding in self.findings)])
        versions = [f"{name:{width}}  {version}" for name, version in self.versions.items()]
        findings = [
            f"{finding.name:{width}}  {'ok   ' if finding.ok else 'WRONG'}  off by {finding.difference:.1e}"
            for finding in self.findings
        ]
        verdict = ["all is well"] if self.ok else [f"problem: {problem}" for problem in self.problems]
        return [*versions, "", *findings, *([""] if findings else []), *verdict]

    def to_json(self) -> str:
        """The report as a JSON object: ok, versions, findings, problems."""
        findings = [asdict(finding) | {"ok": finding.ok} for finding in self.findings]
        for finding in findings:
            finding["difference"] = min(finding["difference"], 1e300)  # JSON knows no infinity
        report = {"ok": self.ok, "versions": self.versions, "findings": findings, "problems": self.problems}
        return json.dumps(report, indent=2)


def doctor() -> Report:
    """Look at what is installed and run the canaries; about 5 seconds.

    A release of JAX that is known to be wrong is not run: it may hang or take the process with it.

    >>> doctor().ok
    True
    """
    versions = {"pim": __version__, "python": platform.python_version(), "platform": platform.platform()}
    versions |= {name: _installed(name) for name in PACKAGES}
    problems = version_problems(versions)
    if problems:
        return Report(versions, (), problems)

    import jax

    from pim.canary import canaries, examine

    versions["devices"] = ", ".join(f"{device.device_kind} {device.id}" for device in jax.devices())
    versions["cores"] = str(os.cpu_count())
    versions["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "(none)")
    findings = tuple(examine(canary) for canary in canaries())
    return Report(versions, findings, canary_problems(findings))


def version_problems(versions: dict[str, str]) -> tuple[str, ...]:
    """What is known against the installed releases, with the remedy."""
    return tuple(
        f"{name} {versions[name]} {KNOWN_BAD[versions[name]]}: {REMEDY}"
        for name in ("jax", "jaxlib")
        if versions[name] in KNOWN_BAD
    )


def canary_problems(findings: "tuple[Finding, ...]") -> tuple[str, ...]:
    """What the canaries tell, with the remedy."""
    return tuple(
        f"'{finding.name}' comes out wrong, off by {finding.difference:.1e}: results of this installation cannot "
        "be trusted; try another release of jax and jaxlib, or XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= "
        "on the CPU, or JAX_DEFAULT_MATMUL_PRECISION=highest on an accelerator"
        for finding in findings
        if not finding.ok
    )


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"
