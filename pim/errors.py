"""The error that a study, its files or its command line can raise."""


class StudyError(ValueError):
    """A study that cannot be run or whose results cannot be kept; the message says what would mend it."""
