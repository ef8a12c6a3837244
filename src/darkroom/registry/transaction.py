"""All or nothing, over calls to a server that knows no transactions: what was done is taken back, last first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from darkroom.errors import DarkroomError, RegistryError
from darkroom.tracking import in_words

Undo = Callable[[], object]


@contextmanager
def all_or_nothing(what: str) -> Iterator[list[Undo]]:
    """Collects what takes the body's work back, and does so, last first, when the body fails.

    Raises:
        RegistryError: for every failure but Darkroom's own errors and interrupts, which are passed on.
    """
    undo: list[Undo] = []
    try:
        yield undo
    except BaseException as error:
        left = take_back(undo)
        if isinstance(error, DarkroomError) or not isinstance(error, Exception):
            raise
        raise RegistryError(f"{what}: {in_words(error)}{left}") from error


def take_back(undo: list[Undo]) -> str:
    """Run the actions, last first. What is left when one fails, in words: a dead server is not asked again."""
    for action in reversed(undo):
        try:
            action()
        except Exception as error:
            return f" (cleaning up failed as well: {in_words(error)}; registering again completes what is left)"
    return ""
