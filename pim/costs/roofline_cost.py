"""What work costs on a roofline: the longer of computing and moving, product by product.

Weights, keys and values stream from the memory once a call, for all its vectors; inputs and results of every operator
go through the memory too (nothing is fused, but the scores of attention where the device says so). Vector work moves
each element in and out, and its few operations count at the rate of products.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pim.costs.ledger import UNKNOWN, Cost, Ledger, join, ledger_of
from pim.devices.roofline import Roofline
from pim.llm_workloads.operators import DYNAMIC, Product, VectorWork
from pim.units import no_room

STARTED = ("norm", "activation")
"""Vector work that starts a kernel of its own; sums, rotations and softmaxes run in those of others."""
COUNTS = (
    "operations", "elementwise", "weights", "keys", "activations", "heads", "starts", "launches", "matrices", "n_in",
    "n_out", "vectors",
)  # fmt: skip
"""What `product_counts` and `vector_counts` may give."""


def roofline_cost(
    roofline: Roofline,
    *,
    operations: Any = 0.0,
    elementwise: Any = 0.0,
    values: Any = 0.0,
    weights: Any = 0.0,
    keys: Any = 0.0,
    activations: Any = 0.0,
    heads: Any = 0.0,
    starts: Any = 0.0,
    launches: Any = 0.0,
    matrices: Any = 0.0,
    n_in: Any = 0.0,
    n_out: Any = 0.0,
    vectors: Any = 0.0,
    operator: str = "",
) -> Ledger:
    """The ledger of work on a roofline; its area is that of the die, see `die_cost`.

    Args:
        roofline: the processor.
        operations: multiplications and additions of products; a multiply-accumulate is two.
        elementwise: operations of vector work.
        values: operands and results that the memory gives or takes, of the bytes of any operand.
        weights: those among them that are weights, where these have bytes of their own; not counted in `values`.
        keys: numbers of cached keys and values, likewise.
        activations: inputs and results, likewise.
        heads: products of activations that run side by side; 0: other work, on all cores.
        starts: kernels of vector work that start.
        launches: kernels that a host starts.
        matrices: matrices of a product that are read; 0: its shape does not matter.
        n_in: inputs of each.
        n_out: outputs.
        vectors: input vectors.
        operator: name for the rows.

    All may be arrays that broadcast. An energy that the roofline does not name is unknown: NaN, printed as such.

    Example:
        >>> gpu = pim.preset("gpu-a100").model
        >>> roofline_cost(gpu, operations=2 * 4096**2, weights=4096**2, activations=8192).latency.sum()
    """
    figures = (
        operations, elementwise, values, weights, keys, activations, heads, starts, launches, matrices, n_in, n_out,
        vectors,
    )  # fmt: skip
    cast = (jnp.asarray(value, jnp.float32) for value in figures)
    return _priced(roofline, *jnp.broadcast_arrays(*cast)).named(operator)


@jax.jit
def _priced(
    roofline: Roofline, operations, elementwise, values, weights, keys, activations, heads, starts, launches, matrices,
    n_in, n_out, vectors,
) -> Ledger:  # fmt: skip
    moved = values * roofline.bytes_per_operand
    for count, kind in ((weights, "weight"), (keys, "key"), (activations, "activation")):
        moved = moved + count * roofline.bytes_of(kind)
    slots = roofline.slots(operations, elementwise, matrices, n_in, n_out, vectors)
    compute, wait = roofline.time(slots, moved, heads)
    each = UNKNOWN if roofline.energy_per_operation is None else roofline.energy_per_operation
    byte = UNKNOWN if roofline.energy_per_byte is None else roofline.energy_per_byte
    rows = [("compute", (operations + elementwise) * each, compute, 0.0), ("memory", moved * byte, wait, 0.0)]
    if roofline.vector_latency is not None:
        rows.append(("start", 0.0, starts * roofline.vector_latency, 0.0))
    if roofline.launch_interval is not None:
        rows.append(("launch", 0.0, jnp.maximum(launches * roofline.launch_interval - compute - wait, 0.0), 0.0))
    return ledger_of(rows)


def product_counts(roofline: Roofline, product: Product) -> dict[str, Any]:
    """What `roofline_cost` counts of a product: new keys and values are written, others read.

    Example:
        >>> for product in products(config, Phase(batch=8, tokens=1, context=2048)):
        ...     roofline_cost(gpu, **product_counts(gpu, product), operator=product.path)
    """
    touched = product.read + product.written
    counts = {"operations": 2 * product.macs, "launches": product.used, "matrices": product.copies * product.used}
    counts |= {"n_in": product.n_in, "n_out": product.n_out, "vectors": product.vectors_if_used}
    if not product.dynamic:
        return {**counts, "weights": touched, "activations": _between(roofline, product.moved)}
    each = product.n_in + product.n_out
    if roofline.attention == "fused":  # of the two sizes, one is that of the scores
        each = product.n_in if product.path.endswith(DYNAMIC[0]) else product.n_out
    moved = _between(roofline, product.copies * product.vectors * each)
    return {**counts, "keys": touched, "activations": moved, "heads": product.copies}


def _between(roofline: Roofline, values: Any) -> Any:
    """Values that go through the memory between two operators."""
    return 0 if roofline.between == "on_die" else values


def vector_counts(roofline: Roofline, work: VectorWork) -> dict[str, Any]:
    """The same of vector work."""
    inside = roofline.attention == "fused" and work.kind == "softmax"
    moved = 0 if inside else _between(roofline, 2 * work.elements)
    started = 1 if work.kind in STARTED else 0
    return {"elementwise": work.ops, "activations": moved, "starts": started, "launches": started}


def die_cost(roofline: Roofline, operator: str = "", latency: Any = 0.0) -> Ledger:
    """What a processor costs by being there for a time (s): its area, and its power at rest where that is known."""
    area = UNKNOWN if roofline.area is None else roofline.area
    rows = [("compute", jnp.zeros(jnp.shape(latency)), 0.0, area)]
    if roofline.idle_power is not None:
        rows.append(("static", roofline.idle_power * latency, 0.0, 0.0))
    return ledger_of(rows, operator)


def compute_only(roofline: Roofline) -> tuple[Cost, float]:
    """The cost of a multiply-accumulate whose operands are at hand, and the operations in it: the peak."""
    work = roofline_cost(roofline, operations=2.0).without("memory")
    return Cost(join([work, die_cost(roofline)]), notes(roofline)), 2.0


def notes(roofline: Roofline) -> tuple[str, ...]:
    """What a cost assumes and leaves out."""
    uncounted = ["power at rest"] * (roofline.idle_power is None) + ["caches", "registers"]
    if roofline.launch_interval is None:
        uncounted.append("the start of each kernel" if roofline.vector_latency is None else "the start of products")
    told = [f"{', '.join(uncounted[:-1])} and {uncounted[-1]} are not counted: a processor takes more"]
    shares = (float(roofline.compute_share), float(roofline.bandwidth_share))
    if shares == (1.0, 1.0):
        told.append("an ideal roofline: measured processors reach 0.7 to 0.8 of it")
    else:
        told.append(f"{shares[0]:.0%} of the peak rate and {shares[1]:.0%} of the bandwidth are taken to be reached")
    if roofline.cores is not None:
        told.append(f"attention keeps as many of {float(roofline.cores):.0f} cores busy as there are heads")
    if roofline.arrays is not None:
        told.append("products take as long as the blocks of its arrays that they fill or begin to fill")
    if roofline.between == "on_die":
        told.append("inputs and results of all operators are taken to stay on the die")
    absent = [name for name in ("energy_per_operation", "energy_per_byte", "area") if getattr(roofline, name) is None]
    if absent:
        told.append(f"{', '.join(absent)} of this processor unknown: totals that need it are unknown too")
    return tuple(told)


def fit_notes(roofline: Roofline, products: Iterable[Product], count: Any = 1) -> tuple[str, ...]:
    """A warning where `count` processors cannot hold the weights, keys and values of all products in their memories.

    Nothing where the size of the memory is unknown, or where values are traced.
    """
    if roofline.memory_bytes is None or any(isinstance(value, Tracer) for value in (roofline.memory_bytes, count)):
        return ()
    key, weight = (float(roofline.bytes_of(kind)) for kind in ("key", "weight"))
    need = sum(float(np.max(product.held)) * (key if product.dynamic else weight) for product in products)
    room = float(np.min(count)) * float(roofline.memory_bytes)
    return tuple(no_room(need, room, "processors"))
