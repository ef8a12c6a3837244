"""Errors that a person can act on.

Everything that a user may do wrong raises a `DarkroomError` whose message names the file or field, the rule and the
value. The command line prints that message alone; a traceback means a defect in Darkroom.
"""


class DarkroomError(Exception):
    """Base of every error that Darkroom raises on purpose."""


class ConfigError(DarkroomError):
    """A parameter is unknown, of the wrong type or out of range."""


class DataError(DarkroomError):
    """A dataset is missing, damaged or breaks a rule."""


class TrainingError(DarkroomError):
    """Training diverged or cannot be done with this configuration."""


class RegistryError(DarkroomError):
    """A model could not be registered; nothing was left half-registered."""
