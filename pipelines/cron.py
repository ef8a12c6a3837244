"""Cron expressions as Kubeflow Pipelines reads them: six fields, seconds first.

KFP 2.17 parses them with robfig/cron 1.2, which also takes `@daily`, and five fields, of which it reads a crontab's
minutes as seconds. Both are refused here, as is everything else that is legal and cannot be meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ANY = ("*", "?")


@dataclass(frozen=True)
class Field:
    """One field: its name, the least and the greatest number, and words that stand for numbers."""

    name: str
    least: int
    most: int
    words: Mapping[str, int] = field(default_factory=dict)


FIELDS = (
    Field("second", 0, 59),
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, {word: number for number, word in enumerate(MONTHS, start=1)}),
    Field("day of the week", 0, 6, {word: number for number, word in enumerate(DAYS)}),
)


def find_problems(expression: str) -> list[str]:
    """Everything that is wrong with an expression: the field, the rule and the value of each; none when it is good."""
    texts = expression.split()
    if len(texts) != len(FIELDS):
        names = ", ".join(known.name for known in FIELDS)
        return [f"must have 6 fields ({names}), got {len(texts)} in {expression!r}"]
    values: list[set[int]] = []
    problems: list[str] = []
    for known, text in zip(FIELDS, texts, strict=True):
        try:
            values.append({value for item in text.split(",") for value in _values(known, item)})
        except ValueError as error:
            problems.append(f"{known.name}: {error}, got {text!r}")
    if problems:
        return problems
    seconds, _, _, days, months, _ = values
    if len(seconds) > 1:
        return [f"second: must be one number, so that it fires at most once a minute, got {texts[0]!r}"]
    # Where both kinds of days are restricted, either may match; an unrestricted one leaves it to the other.
    if texts[5].startswith(ANY) and all(min(days) > DAYS_OF_MONTH[month - 1] for month in months):
        return [f"day of the month: never comes in the month, got {texts[3]!r} and {texts[4]!r}"]
    return []


def _values(known: Field, item: str) -> range:
    """The values of one item of a list: a number, a range, everything, or one of those by steps."""
    span, slash, step = item.partition("/")
    first, hyphen, last = span.partition("-")
    if first in ANY:
        if hyphen:
            raise ValueError(f"{first} takes no range")
        low, high = known.least, known.most
    else:
        low = _number(known, first)
        # A single number with a step runs to the end: `5/15` is 5, 20, 35 and 50.
        high = _number(known, last) if hyphen else known.most if slash else low
    if low > high:
        raise ValueError("a range must rise")
    if slash and not (step.isdecimal() and int(step) > 0):
        raise ValueError("a step must be a positive number")
    return range(low, high + 1, int(step) if slash else 1)


def _number(known: Field, text: str) -> int:
    number = known.words.get(text.lower(), int(text) if text.isascii() and text.isdecimal() else -1)
    if not known.least <= number <= known.most:
        words = f" or {next(iter(known.words))} to {list(known.words)[-1]}" if known.words else ""
        raise ValueError(f"must be {known.least} to {known.most}{words}")
    return number
