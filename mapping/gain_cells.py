"""What may be placed on gain cells that compute attention: both of its products, of a model that they can serve."""

from collections.abc import Mapping

from pim.devices.gain_attention import GainAttention
from pim.llm_workloads.config import ModelConfig
from pim.llm_workloads.operators import DYNAMIC, layer_path
from pim.mapping.errors import MappingError
from pim.mapping.system import System


def check_gain_cells(config: ModelConfig, assignment: Mapping[str, str], system: System) -> None:
    """Raise MappingError where a placement asks of gain cells what they do not do, DeviceError for a head too wide."""
    engines = {name: device.model for name, device in system.devices.items()}
    engines = {name: model for name, model in engines.items() if isinstance(model, GainAttention)}
    placed = {path: name for path, name in assignment.items() if name in engines}
    for path, name in placed.items():
        if not path.endswith(DYNAMIC):
            raise MappingError(
                f"{path} is a matrix of weights, but goes to {name!r}, which computes attention alone: add a rule that "
                "sends it elsewhere"
            )
    for layer in range(config.num_hidden_layers):
        names = {operator: assignment[layer_path(layer, operator)] for operator in DYNAMIC}
        if set(names.values()) & set(engines) and len(set(names.values())) != 1:
            told = " and ".join(f"{operator} to {name!r}" for operator, name in names.items())
            raise MappingError(
                f"layer {layer} sends {told}: gain cells compute attention as a whole, without a softmax between its "
                "products; send both to the engine or neither"
            )
    for name in dict.fromkeys(placed.values()):
        check_attention(config, name)
        engines[name].check_head(config.head_dim)


def check_attention(config: ModelConfig, name: str) -> None:
    """The model's attention looks back, over plain scores."""
    if not config.attention.causal:
        raise MappingError(
            f"{name}: a {config.family} model reads both ways, but gain cells keep the tokens that were: send its "
            "attention to a digital device"
        )
    if config.attention.softcap is not None:
        raise MappingError(
            f"{name}: the scores of a {config.family} model are bent by a soft cap, which gain cells do not do: send "
            "its attention to a digital device"
        )
