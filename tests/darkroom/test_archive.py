import errno
import resource
from pathlib import Path

import keras
import numpy as np
import pytest

from darkroom.archive import save_model


def build() -> keras.Model:
    keras.utils.set_random_seed(3)
    shared = keras.initializers.HeNormal(seed=1)
    images = keras.Input((4, 4, 1), name="i")
    hidden = keras.layers.Dense(8, kernel_initializer=shared, name="a")(keras.layers.Flatten(name="f")(images))
    return keras.Model(images, keras.layers.Dense(2, kernel_initializer=shared, name="b")(hidden), name="m")


def test_equal_models_are_equal_files_and_load_in_safe_mode(tmp_path: Path) -> None:
    first, second = build(), build()
    save_model(first, tmp_path / "first.keras")
    save_model(second, tmp_path / "second.keras")
    assert (tmp_path / "first.keras").read_bytes() == (tmp_path / "second.keras").read_bytes()
    images = np.linspace(0, 1, 32, dtype=np.float32).reshape(2, 4, 4, 1)
    loaded = keras.saving.load_model(tmp_path / "first.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), first.predict(images, verbose=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.keras", "second.keras"]


def test_other_weights_are_another_file(tmp_path: Path) -> None:
    model = build()
    save_model(model, tmp_path / "before.keras")
    model.get_layer("b").bias.assign([1.0, 2.0])
    save_model(model, tmp_path / "after.keras")
    assert (tmp_path / "before.keras").read_bytes() != (tmp_path / "after.keras").read_bytes()


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"model\.keras") as caught:
            save_model(build(), tmp_path / "model.keras")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []
