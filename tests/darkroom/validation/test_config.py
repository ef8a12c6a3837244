import subprocess
import sys

import pytest

from darkroom.errors import ConfigError
from darkroom.validation.config import ValidateConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_duplicate_share": 1.5}, "validate.max_duplicate_share: .* less than or equal to 1, got 1.5"),
        ({"max_class_imbalance": 0.5}, "validate.max_class_imbalance: .* greater than or equal to 1, got 0.5"),
        ({"max_duplicates": 3}, "validate.max_duplicates: unknown parameter; known here: max_blank_share"),
    ],
)
def test_bad_limits_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ValidateConfig.parse(values, where="validate")


def test_limits_are_known_without_great_expectations() -> None:
    code = "import sys, darkroom.validation.config; sys.exit(bool({'great_expectations', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
