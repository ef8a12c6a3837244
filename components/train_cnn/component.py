"""Step 4a: train the classifier."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train_cnn(
    splits: Input[Dataset],
    data_md5: str,
    architecture: str,
    optimizer: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    options: dict,
    model: Output[Model],
    history: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Train a convolutional classifier on the training split.

    Args:
        splits: The preprocessed splits.
        data_md5: The dataset's DVC md5.
        architecture: Name of the network.
        optimizer: Name of the optimizer.
        epochs: Passes over the training split.
        batch_size: Images per step.
        learning_rate: Peak learning rate.
        seed: Seed of initial weights, order and augmentation.
        options: Further fields of CnnConfig that differ from their defaults.
        model: Folder with model.keras, which takes raw uint8 images, and origin.json, what it comes from.
        history: Folder with accuracy and loss per epoch as JSON and as a plot.
        metrics: Final training and validation metrics.
    """
    from pathlib import Path

    from darkroom.files import write_json
    from darkroom.origin import ORIGIN_FILE
    from darkroom.steps import step

    with step("train_cnn", metrics) as running:
        from darkroom.cnn.config import CnnConfig
        from darkroom.cnn.train import train

        config = running.configure(
            CnnConfig,
            data_md5,
            options,
            architecture=architecture,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
        )
        running.log_dataset(splits.path, data_md5)
        origin = running.origin(config, splits.path, data_md5)
        result = train(
            Path(splits.path),
            config,
            Path(model.path),
            Path(history.path),
            checkpoint=running.checkpoint(origin),
            on_epoch=running.on_epoch,
            on_batch=running.on_batch,
        )
        write_json(Path(model.path) / ORIGIN_FILE, origin)
        running.log_files(history.path, "history")
        running.log_metrics(result.metrics)
