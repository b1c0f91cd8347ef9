"""What this wing raises when it is given something it cannot use."""


class WorkloadError(ValueError):
    """A model, checkpoint, tokenizer or text that cannot be used: the message says what, where and what would be right.

    Example:
        >>> raise WorkloadError("model/config.json: no such file; a model folder holds config.json")
        Traceback (most recent call last):
        pim.llm_workloads.errors.WorkloadError: model/config.json: no such file; a model folder holds config.json
    """
