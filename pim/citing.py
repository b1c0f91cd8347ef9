"""The verb `citations`: the papers behind the figures."""

from pim.devices.device import Device, Source
from pim.errors import StudyError
from pim.mapping.plan import Plan
from pim.mapping.system import System
from pim.result import Result


def citations(what: Device | System | Plan | Result) -> dict[str, Source]:
    """The sources behind every figure that a device has, or that a system, plan or result uses, by short names.

    Example:
        >>> for source in pim.citations(pim.preset("rram-techC")).values():
        ...     print(source.citation, source.url)
    """
    if isinstance(what, Plan):
        return what.system.citations()
    if isinstance(what, Device | System | Result):
        return what.citations()
    raise StudyError(f"only devices, systems, plans and results have sources, not a {type(what).__name__}")
