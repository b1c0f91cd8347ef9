"""The families that can be loaded."""

from pim.llm_workloads.config_file import ConfigFile
from pim.llm_workloads.families import bert, gemma, gpt2, gpt_neox, llama, mistral, mixtral, opt, phi, qwen
from pim.llm_workloads.families.family import Family

FAMILIES = (
    llama.FAMILY,
    mistral.FAMILY,
    mixtral.FAMILY,
    qwen.QWEN2,
    qwen.QWEN3,
    gemma.GEMMA,
    gemma.GEMMA2,
    phi.PHI,
    phi.PHI3,
    gpt2.FAMILY,
    gpt_neox.FAMILY,
    opt.FAMILY,
    bert.FAMILY,
)


def family_of(file: ConfigFile) -> Family:
    """The family of a config.json, by the class that it names, else by its model type.

    Raises:
        WorkloadError: one that is not supported.
    """
    architectures = file.get("architectures", default=None)
    named = (
        architectures[0] if isinstance(architectures, list) and architectures else file.get("model_type", default=None)
    )
    for family in FAMILIES:
        if isinstance(named, str) and named in (*family.architectures, family.name):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise file.error(f"architecture {named!r} is not supported; {known} are")
