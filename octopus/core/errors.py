"""The errors a user can act on.

Belongs here: the base class, and the errors that more than one group raises. Does not: errors of one group (they
stand beside the code that raises them, derived from `OctopusError`).
"""


class OctopusError(Exception):
    """An error with a remedy: one line that says what is wrong, where, and what to do about it."""


class ConfigError(OctopusError):
    """A setting is missing or wrong.

    The message names the file (or variable), the field, the value and the remedy.
    """

    def __init__(self, *, where: str, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{where}: {field} = {value!r}: {remedy}")
        self.where = where
        self.field = field
        self.value = value
        self.remedy = remedy


class MissingDataError(OctopusError):
    """Data that a computation needs is not there; the message says which and how to get it."""


class SourceUnavailableError(OctopusError):
    """A vendor could not be reached or refused; the message names the source and what to check."""


class UnreadableEvidenceError(OctopusError):
    """The record of what a gate judged by is not of this release's form, or not what was recorded."""
