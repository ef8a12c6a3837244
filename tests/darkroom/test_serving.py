"""Registered models answer without Darkroom, in a fresh process, and only if their file is the registered one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import pyfunc
from mlflow.exceptions import MlflowException

from darkroom.data.splits import read_split
from darkroom.registry import save_pyfunc, serving_requirements

CLASSES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def classifier(tiny_networks: Path, tiny_splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier") / "model"
    save_pyfunc("cnn", tiny_networks / "model.keras", read_split(tiny_splits, "test"), folder)
    return folder


@pytest.fixture(scope="module")
def generator(tiny_networks: Path, tiny_splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator") / "model"
    save_pyfunc("gan", tiny_networks / "generator.keras", read_split(tiny_splits, "test"), folder)
    return folder


def test_classifier_answers_with_label_name_and_probabilities(classifier: Path, tiny_splits: Path) -> None:
    images = np.array(read_split(tiny_splits, "test").images[:5])
    answer = pyfunc.load_model(str(classifier)).predict(images)
    probabilities = np.array(answer["probabilities"].tolist())
    assert probabilities.shape == (5, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert answer["label"].tolist() == probabilities.argmax(axis=1).tolist()
    assert answer["class_name"].tolist() == [CLASSES[label] for label in answer["label"]]


@pytest.mark.parametrize("images", [np.zeros((1, 28, 28, 1), np.float32), np.zeros((1, 8, 8, 1), np.uint8)])
def test_classifier_refuses_images_of_another_type_or_shape(classifier: Path, images: np.ndarray) -> None:
    with pytest.raises(MlflowException, match=r"schema|shape|type"):
        pyfunc.load_model(str(classifier)).predict(images)


def test_a_seed_gives_the_same_image_whatever_is_asked_for_beside_it(generator: Path) -> None:
    model = pyfunc.load_model(str(generator))
    together = model.predict(pd.DataFrame({"label": [1, 2, 2], "seed": [7, 8, 9]}))
    alone = model.predict(pd.DataFrame({"label": [2], "seed": [8]}))
    assert (together.shape, together.dtype) == ((3, 28, 28, 1), np.uint8)
    np.testing.assert_array_equal(together[1], alone[0])
    assert (together[1] != together[2]).any()


def test_without_a_seed_images_differ(generator: Path) -> None:
    images = pyfunc.load_model(str(generator)).predict(pd.DataFrame({"label": [3, 3]}))
    assert (images[0] != images[1]).any()


def test_generator_refuses_a_label_that_names_no_class(generator: Path) -> None:
    with pytest.raises(ValueError, match="label must be from 0 to 9, got 4 to 10"):
        pyfunc.load_model(str(generator)).predict(pd.DataFrame({"label": [4, 10]}))


def test_an_altered_file_is_refused_before_keras_sees_it(classifier: Path) -> None:
    network = classifier / "artifacts" / "model.keras"
    whole = network.read_bytes()
    network.write_bytes(b"not even a zip file")
    try:
        with pytest.raises(ValueError, match=r"its sha256 is .* not loaded"):
            pyfunc.load_model(str(classifier))
    finally:
        network.write_bytes(whole)


def test_nothing_is_pickled(classifier: Path, generator: Path) -> None:
    for folder in (classifier, generator):
        assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".h5")]
        assert (folder / "serving.py").is_file()


def test_requirements_are_pinned_whether_or_not_keras_is_installed_here() -> None:
    requirements = serving_requirements()
    assert all("==" in requirement for requirement in requirements)
    names = {requirement.partition("==")[0] for requirement in requirements}
    assert names >= {"keras", "mlflow", "numpy", "pandas"}
    assert names & {"tensorflow", "tensorflow-cpu"}


def test_models_answer_in_a_fresh_process_without_darkroom_or_pickles(
    classifier: Path, generator: Path, fresh_python: Callable[..., str]
) -> None:
    code = f"""
import sys
sys.modules["darkroom"] = None  # an import of darkroom fails
import numpy as np
from mlflow import pyfunc
answer = pyfunc.load_model({str(classifier)!r}).predict(np.zeros((2, 28, 28, 1), np.uint8))
images = pyfunc.load_model({str(generator)!r}).predict([{{"label": 1, "seed": 2}}])
print(len(answer), images.shape)
"""
    assert fresh_python(code, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false") == "2 (1, 28, 28, 1)"
