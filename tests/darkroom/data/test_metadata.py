from pathlib import Path

import pytest

from darkroom.data.metadata import FILE_NAME, read_info
from darkroom.errors import DataError


def test_a_dataset_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes("name: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match=rf"{FILE_NAME}: not readable as YAML: 'utf-8' codec can't decode byte 0xe9"):
        read_info(tmp_path)
