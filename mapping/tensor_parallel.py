"""Products shared by several devices, as tensor parallelism does it: what each of them gets.

The matrices whose results are added up behind them anyway are cut along their inputs, the others along their outputs,
so that only two sums a layer cross the links (Shoeybi et al., Megatron-LM, arXiv 1909.08053, section 3). Keys and
values are dealt out by sequence and head. Norms and residual sums are done by all.
"""

from dataclasses import replace

import numpy as np

from pim.llm_workloads.operators import Count, Product, VectorWork

SUMMED = ("attention.o", "down")
"""Ends of the paths of matrices cut along their inputs: their results are to be added up over the devices."""
BY_ALL = ("norm", "residual")
"""Kinds of vector work that every device does for itself."""


def part_of_product(product: Product, devices: int) -> tuple[Product, Count]:
    """What the busiest of so many devices has of a product, and how many such parts there are in all.

    >>> part, parts = part_of_product(Product("head", False, 64, 512, 1, 1, 64 * 512, 0), 8)
    >>> part.n_out, parts
    (64, 8)
    """
    if devices == 1:
        return product, 1
    if product.dynamic:
        copies = np.ceil(np.divide(product.copies, devices))
        parts = product.copies / copies
        part = replace(product, copies=copies, held=product.held / parts, written=product.written / parts)
        return part, parts
    side = "n_in" if product.path.endswith(SUMMED) else "n_out"
    part = replace(product, **{side: -(-getattr(product, side) // devices)})
    return replace(part, held=part.copies * part.n_in * part.n_out), devices


def part_of_work(work: VectorWork, devices: int) -> tuple[VectorWork, int]:
    """The same for vector work."""
    if devices == 1 or work.kind in BY_ALL:
        return work, devices
    return replace(work, elements=work.elements / devices), devices
