"""The error that a model, checkpoint, tokenizer or text can raise."""


class WorkloadError(ValueError):
    """A model, checkpoint, tokenizer or text that cannot be used; the message says what would be right."""
