"""How a registered model answers: MLflow "models from code".

MLflow stores this file beside the `.keras` file and runs it when the model is loaded, so it imports nothing of
Darkroom: an environment with mlflow, keras and tensorflow serves the model. Nothing is pickled. Keras is imported in
`load_context` alone, so that a model can be registered where TensorFlow is not installed.

The model's configuration, which MLflow stores too, holds `kind` (cnn or gan), `sha256` of the `.keras` file and, for
the classifier, `classes`: their names, by label.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelConfig, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

BATCH_SIZE = 256


def load_checked(path: Path, sha256: str) -> Any:
    """Load a `.keras` file whose bytes are the ones that were registered.

    A `.keras` file describes code to build, and Keras' safe mode is no boundary: so the hash is compared first.

    Raises:
        ValueError: the file's sha256 is another one; Keras has not seen the file.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: its sha256 is {found}, but the model was registered with {sha256}; not loaded")
    import keras

    return keras.saving.load_model(path, compile=False)


class ImageClassifier(PythonModel):  # type: ignore[misc]  # MLflow is not typed
    """Images [N, H, W, C] uint8 in; one row per image out: `label`, `class_name` and all `probabilities`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check and load the network."""
        self.network = load_checked(Path(context.artifacts["network"]), context.model_config["sha256"])
        self.classes: list[str] = list(context.model_config["classes"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # MLflow warns about a hint with the element's type
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Classify images [N, H, W, C] uint8, raw: normalisation and softmax are part of the network."""
        probabilities = np.asarray(self.network.predict(model_input, batch_size=BATCH_SIZE, verbose=0))
        labels = probabilities.argmax(axis=1)
        return pd.DataFrame(
            {
                "label": labels.astype(np.int64),
                "class_name": [self.classes[label] for label in labels],
                "probabilities": probabilities.astype(np.float64).tolist(),
            }
        )


class ImageGenerator(PythonModel):  # type: ignore[misc]  # MLflow is not typed
    """Rows with a `label` and, if wanted, a `seed` in; images [N, H, W, C] uint8 out.

    The same label and seed give the same image, whatever else is asked for with it. Give all rows a seed or none.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Check and load the network."""
        self.network = load_checked(Path(context.artifacts["network"]), context.model_config["sha256"])
        self.latent = int(self.network.inputs[0].shape[-1])
        self.classes = len(context.model_config["classes"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> NDArray[np.uint8]:
        """Draw one image per row.

        Raises:
            ValueError: a label names no class.
        """
        labels = model_input["label"].to_numpy(dtype=np.int32)
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise ValueError(f"label must be from 0 to {self.classes - 1}, got {labels.min()} to {labels.max()}")
        seeds = model_input["seed"].tolist() if "seed" in model_input else [None] * len(labels)
        z = np.stack([np.random.default_rng(seed).standard_normal(self.latent, dtype=np.float32) for seed in seeds])
        images = np.asarray(self.network.predict([z, labels], batch_size=BATCH_SIZE, verbose=0))
        return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)


# MLflow supplies the stored configuration when it runs this file; the default below is for whoever imports it.
_kind = ModelConfig(development_config={"kind": "cnn"}).get("kind")
set_model({"cnn": ImageClassifier, "gan": ImageGenerator}[_kind]())
