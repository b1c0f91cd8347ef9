"""The error that a mapping can raise."""


class MappingError(ValueError):
    """A model that cannot be placed on a system; the message says what is missing."""
