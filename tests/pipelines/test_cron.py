import pytest

from pipelines.cron import find_problems


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 2 * * *",
        "30 */15 8-18 ? * MON-FRI",
        "0 5/15 0,6,12,18 1 jan,JUL ?",
        "0 0 0 31 * *",
        "0 0 0 29 2 *",
        "0 0 0 31 2 mon",  # every Monday of February: either kind of day may match
        "0  0\t2 * * 0",
    ],
)
def test_what_kubeflow_reads_as_it_is_meant_is_good(expression: str) -> None:
    assert find_problems(expression) == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("0 2 * * *", "must have 6 fields (second, minute, hour, day of the month, month, day of the week), got 5 in"),
        ("0 0 2 * * * 2026", "must have 6 fields"),
        ("", "got 0 in ''"),
        ("@daily", "got 1 in '@daily'"),
        ("60 0 2 * * *", "second: must be 0 to 59, got '60'"),
        ("0 -1 2 * * *", "minute: must be 0 to 59, got '-1'"),
        ("0 0 24 * * *", "hour: must be 0 to 23, got '24'"),
        ("0 0 2 0 * *", "day of the month: must be 1 to 31, got '0'"),
        ("0 0 2 * febr *", "month: must be 1 to 12 or jan to dec, got 'febr'"),
        ("0 0 2 * * 7", "day of the week: must be 0 to 6 or sun to sat, got '7'"),
        ("0 0 18-8 * * *", "hour: a range must rise, got '18-8'"),
        ("0 */0 2 * * *", "minute: a step must be a positive number, got '*/0'"),
        ("0 */x 2 * * *", "minute: a step must be a positive number, got '*/x'"),
        ("0 1/2/3 2 * * *", "minute: a step must be a positive number, got '1/2/3'"),
        ("0 1-2-3 2 * * *", "minute: must be 0 to 59, got '1-2-3'"),
        ("0 *-5 2 * * *", "minute: * takes no range, got '*-5'"),
        ("0 1,, 2 * * *", "minute: must be 0 to 59, got '1,,'"),
        ("0 ٣ 2 * * *", "minute: must be 0 to 59"),
        ("* 0 2 * * *", "second: must be one number, so that it fires at most once a minute, got '*'"),
        ("0 0 0 31 2,4 *", "day of the month: never comes in the month, got '31' and '2,4'"),
    ],
)
def test_every_mistake_is_named(expression: str, problem: str) -> None:
    (found,) = find_problems(expression)
    assert problem in found


def test_all_fields_are_looked_at() -> None:
    assert [problem.partition(":")[0] for problem in find_problems("60 60 24 32 13 7")] == [
        "second",
        "minute",
        "hour",
        "day of the month",
        "month",
        "day of the week",
    ]
