from pathlib import Path

import keras
import numpy as np
import pytest

from darkroom.cnn.backbone import extract_features
from darkroom.cnn.config import BackboneConfig
from darkroom.errors import ConfigError

SMALL = BackboneConfig(weights="random", size=32)


def extract(config: BackboneConfig, channels: int = 1):
    images = keras.Input((28, 28, channels), dtype="uint8")
    features, backbone = extract_features(images, config, pretrained=True)
    return keras.Model(images, features), backbone


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    _, backbone = extract(SMALL)
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    backbone.save_weights(path)
    return path, backbone.get_weights()


def test_local_weights_are_loaded(weights_file):
    path, weights = weights_file
    _, backbone = extract(SMALL.model_copy(update={"weights": str(path)}))
    for one, other in zip(backbone.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_grey_images_become_three_equal_channels(weights_file):
    config = SMALL.model_copy(update={"weights": str(weights_file[0])})
    grey, colour = extract(config, 1)[0], extract(config, 3)[0]
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    expected = colour.predict(np.repeat(images, 3, axis=-1), verbose=0)
    np.testing.assert_allclose(grey.predict(images, verbose=0), expected, atol=1e-5)


def test_other_channels_are_refused():
    with pytest.raises(ConfigError, match="takes images of 1 or 3 channels, got 4"):
        extract(SMALL, 4)


def test_missing_weights_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"backbone\.weights: .*absent\.weights\.h5: no such file"):
        extract(SMALL.model_copy(update={"weights": str(tmp_path / "absent.weights.h5")}))


def test_weights_of_another_network_are_refused(weights_file, tmp_path: Path):
    config = SMALL.model_copy(update={"weights": str(weights_file[0]), "name": "MobileNetV3Large"})
    with pytest.raises(ConfigError, match="not weights of MobileNetV3Large without its head"):
        extract(config)
    (tmp_path / "broken.weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(ConfigError, match="not weights of MobileNetV3Small"):
        extract(SMALL.model_copy(update={"weights": str(tmp_path / "broken.weights.h5")}))


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    # A port on which nobody listens, and a cache without the file.
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setattr("keras.src.applications.mobilenet_v3.BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    with pytest.raises(ConfigError, match=r"imagenet weights of MobileNetV3Small cannot be downloaded .*\.h5"):
        extract(SMALL.model_copy(update={"weights": "imagenet"}))
