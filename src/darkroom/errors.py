"""Errors that a person can act on.

Everything that a user may do wrong raises a `DarkroomError` whose message names the file or field, the rule and the
value. The command line prints that message alone; a traceback means a defect in Darkroom.
"""

import errno
import os

_STORAGE_ERRORS = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}
)


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


class ClusterError(DarkroomError):
    """A Kubeflow API server could not be reached, or refused what was asked; `status` is its HTTP status, if any."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def message_for_user(error: BaseException) -> str | None:
    """The message of an error that a person can mend; None for a defect, which deserves its traceback.

    Besides Darkroom's own errors that is a disk that is full or must not be written, or a file where a folder belongs.
    """
    if isinstance(error, DarkroomError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
        return f"{error.filename or 'writing a file'}: {os.strerror(error.errno)}"
    return None
