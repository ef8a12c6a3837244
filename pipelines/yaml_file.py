"""YAML files that a person wrote, and what is said when one cannot be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from darkroom.errors import ConfigError


def read_yaml(file: Path, load: Callable[[str], Any] = yaml.safe_load) -> Any:
    """What a file holds, as `load` makes it from its text.

    Raises:
        ConfigError: the file cannot be read, or is not YAML.
    """
    try:
        return load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not readable as YAML: {error}") from None
