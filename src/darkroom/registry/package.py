"""A network as an MLflow model, made without loading the network."""

from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from darkroom.data.splits import Split
from darkroom.files import sha256_of

Kind = Literal["cnn", "gan"]

NETWORK_FILES: dict[Kind, str] = {"cnn": "model.keras", "gan": "generator.keras"}
SERVING_CODE = Path(__file__).parents[1] / "serving.py"


def save_pyfunc(kind: Kind, network: Path, test: Split, folder: Path, *, model_id: str | None = None) -> None:
    """Write an MLflow pyfunc model of `network` to the new `folder`, without loading the network.

    `test` supplies the shape of an image, the classes and, for a classifier, two images as input example.
    """
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    images = image_schema(test)
    if kind == "cnn":
        answer = [
            ColSpec(DataType.long, "label"),
            ColSpec(DataType.string, "class_name"),
            ColSpec(Array(DataType.double), "probabilities"),
        ]
        signature = ModelSignature(inputs=images, outputs=Schema(answer))
        example: Any = np.array(test.images[:2])
    else:
        request = [ColSpec(DataType.long, "label"), ColSpec(DataType.long, "seed", required=False)]
        signature = ModelSignature(inputs=Schema(request), outputs=images)
        example = pd.DataFrame({"label": [0, 1], "seed": [0, 0]})
    pyfunc.save_model(
        path=str(folder),
        mlflow_model=Model(model_id=model_id),
        python_model=str(SERVING_CODE),
        artifacts={"network": str(network)},
        model_config={"kind": kind, "sha256": sha256_of(network), "classes": test.info.classes},
        signature=signature,
        input_example=example,
        pip_requirements=serving_requirements(),
    )


def serving_requirements() -> list[str]:
    """What an environment that serves a model installs, pinned.

    Keras and TensorFlow need not be installed where a model is registered, so their pins come from the metadata of the
    package `darkroom`, extra `train`.
    """
    from packaging.requirements import Requirement

    pinned = []
    for line in metadata.requires("darkroom") or []:
        requirement = Requirement(line)
        wanted = requirement.marker is not None and requirement.marker.evaluate({"extra": "train"})
        if wanted and requirement.name in ("keras", "tensorflow", "tensorflow-cpu"):
            pinned.append(f"{requirement.name}{requirement.specifier}")
    return [*(f"{name}=={metadata.version(name)}" for name in ("mlflow", "numpy", "pandas")), *sorted(pinned)]


def image_schema(test: Split) -> Any:
    """MLflow's schema of images [N, H, W, C] uint8, as they are in `test`."""
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype(np.uint8), (-1, *test.image_shape))])
