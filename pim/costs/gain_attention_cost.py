"""What attention on gain cells costs: a time and an energy for each token and head, whatever the context.

All heads and sequences have arrays of their own and work at once; layers follow one another, and so do the queries of
a group, which share the arrays of their keys. The published figures (Leroux et al., Nature Computational Science 5,
813, 2025, and its code) are those of heads of 64 numbers with a window of 1,024 tokens.
"""

from typing import Any

import jax.numpy as jnp

from pim.costs.ledger import UNKNOWN, Cost, Ledger, join, kind, ledger_of
from pim.devices.gain_attention import AttentionCost, GainAttention
from pim.errors import StudyError
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import DYNAMIC, Phase, Product, layer_of, products


def product_ledger(cost: AttentionCost | None, product: Product) -> Ledger:
    """One of the two products of attention on gain cells, over the shape of its copies and vectors.

    Each copy, a key head of a sequence, has arrays of its own that work at once with the others; its vectors, the
    queries, come one after another. Both products are one pass through a pipeline, whose time is given to the product
    with the keys.

    Args:
        cost: of the engine; None: all is unknown.
        product: with keys or values.

    Example:
        >>> keys, values = (p for p in products(config, Phase()) if p.dynamic and layer_of(p.path) == 0)
        >>> product_ledger(engine.cost, keys).energy
    """
    vectors, keys = jnp.asarray(product.vectors, jnp.float32), product.path.endswith(DYNAMIC[0])
    each = jnp.asarray(product.copies, jnp.float32) * vectors
    if cost is None:
        time = drivers = cells = digital = UNKNOWN
    elif keys:
        time, cells, drivers, digital = cost.time, cost.score_energy, cost.driver_energy, 0.0
    else:
        time, cells, drivers, digital = 0.0, cost.value_energy, 0.0, cost.digital_energy
    return ledger_of(
        [
            ("cells", each * cells, vectors * time, 0.0),
            ("drivers", each * drivers, 0.0, 0.0),
            ("digital", each * digital, 0.0, 0.0),
        ]
    )


def decode_step(engine: GainAttention, config: ModelConfig, *, batch: Any = 1) -> Cost:
    """The attention of one decode step of a model: all its layers, one token for each of `batch` sequences.

    Args:
        engine: the gain cells.
        config: shapes of the model.
        batch: sequences, each with arrays of its own; may be an array.

    Raises:
        StudyError: the engine's cost is not known.
        DeviceError: a head wider than its arrays.

    Example:
        >>> step = decode_step(pim.preset("gaincell-attention").model, known_shape("gpt2"))
        >>> step.energy, step.latency / 12
    """
    engine.check_head(config.head_dim)
    _check_known(engine)
    layer = [p for p in products(config, Phase(batch=batch)) if p.dynamic and layer_of(p.path) == 0]
    work = join(product_ledger(engine.cost, p).named(kind(p.path)) for p in layer)
    every = work.map(lambda figures: figures * config.num_hidden_layers)
    return Cost(join([every, standing("attention").over(every.energy.shape[1:])]), notes(engine, config.head_dim))


def token_only(engine: GainAttention) -> tuple[Cost, float]:
    """The cost of a token in one head of the widest kind with a full window, and the operations in both its products.

    Raises StudyError if the engine's cost is not known.
    """
    _check_known(engine)
    one = {"dynamic": True, "n_in": 1, "n_out": 1, "copies": 1, "vectors": 1, "held": 1, "written": 1}
    work = [product_ledger(engine.cost, Product(path=operator, **one)).named(operator) for operator in DYNAMIC]
    return Cost(join([*work, standing("attention")]), notes(engine, engine.rows)), 4.0 * engine.rows * engine.window


def _check_known(engine: GainAttention) -> None:
    if engine.cost is None:
        raise StudyError("what a token takes on these gain cells is not known: the device has no part `cost`")


def standing(operator: str = "") -> Ledger:
    """What the arrays of all heads cost by being there: nobody has told their area."""
    return ledger_of([("cells", 0.0, 0.0, UNKNOWN)], operator)


def notes(engine: GainAttention, head_dim: int) -> tuple[str, ...]:
    """What a cost assumes and leaves out."""
    told = ["the area of gain cells and of their digital part is unknown, and what they burn at rest is not counted"]
    if head_dim != engine.rows:
        told.append(
            f"energies are those of heads of {engine.rows} numbers with {engine.window} tokens: these of {head_dim} "
            "take less"
        )
    return tuple(told)
