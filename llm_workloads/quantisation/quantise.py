"""A model with quantised weights."""

from typing import Any

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.formats.format import Format
from pim.llm_workloads.formats.names import parse_format
from pim.llm_workloads.model import Model
from pim.llm_workloads.quantisation.awq import rescaled
from pim.llm_workloads.quantisation.gptq import gptq, hessian
from pim.llm_workloads.quantisation.layerwise import Inputs, Layer, layer_by_layer, with_layers
from pim.llm_workloads.quantisation.rtn import rounded_layers, rounded_operators
from pim.llm_workloads.text import ScoredText

METHODS = {
    "rtn": "every weight to the nearest value",
    "gptq": "one input after another, the later weights making up for the error",
    "awq": "to the nearest value, channels with large inputs scaled up before",
}
"""How weights are quantised, in words."""


def quantise(
    model: Model,
    how: str | Format,
    method: str = "rtn",
    text: str | ScoredText | None = None,
    *,
    act_order: bool = False,
    **options: Any,
) -> Model:
    """A model with the matrices of its layers quantised, each weight in float32 as what the format keeps of it.

    Embedding, head, norms, biases and the routers of experts stay as they are. Methods that need a text give each
    expert all of its tokens, also those that are not routed to it.

    Args:
        model: any.
        how: format of the weights, or its name, such as "int4:group128".
        method: one of `METHODS`.
        text: calibration text of "gptq" and "awq", which should not be the one that is scored.
        act_order: of "gptq": the inputs with the largest squares first.
        options: `context` and `tokens` of the text, see `layerwise.layer_by_layer`.

    Raises:
        WorkloadError: an unknown method or format, no text where one is needed, or an argument that the method has no
            use for.

    Example:
        >>> quantise(load_model("tiny-stories"), "int3:group64", "gptq", text)
    """
    weights = parse_format(how, "weights") if isinstance(how, str) else how
    if method not in METHODS:
        raise WorkloadError(f"method = {method!r} is none of {', '.join(METHODS)}")
    needless = [name for name in ("text", *options) if name != "text" or text is not None] if method == "rtn" else []
    needless += ["act_order"] if act_order and method != "gptq" else []
    if needless:
        raise WorkloadError(f"{', '.join(needless)}: without effect with method = {method!r}, leave it out")
    if method == "rtn":
        (layers,) = model.params["segments"]
        return with_layers(model, rounded_layers(model.config, layers, weights))
    if text is None:
        raise WorkloadError(f"{method} needs a calibration text: give text=..., other than the one to be scored")
    if method == "awq":
        return quantise(rescaled(model, text, weights, **options), weights)

    def visit(index: int, layer: Layer, inputs: Inputs) -> Layer:
        found = dict(layer)
        for operator in rounded_operators(model.config):
            found[operator] = gptq(layer[operator], hessian(inputs[operator]), weights, act_order=act_order)
        return found

    return layer_by_layer(model, text, visit, **options)
