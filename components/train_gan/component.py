"""Step 4b: train the generator."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train_gan(
    splits: Input[Dataset],
    data_md5: str,
    epochs: int,
    batch_size: int,
    generator_learning_rate: float,
    discriminator_learning_rate: float,
    seed: int,
    options: dict,
    model: Output[Model],
    history: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Train a class-conditional DCGAN on the training split.

    Args:
        splits: The preprocessed splits.
        data_md5: The dataset's DVC md5.
        epochs: Passes over the training split.
        batch_size: Images per step.
        generator_learning_rate: Adam's, for the generator.
        discriminator_learning_rate: Adam's, for the discriminator.
        seed: Seed of initial weights, order and noise.
        options: Further fields of GanConfig that differ from their defaults.
        model: Folder with generator.keras (averaged weights), discriminator.keras and origin.json, what they come from.
        history: Folder with the losses per epoch as JSON and as a plot, and a sample grid per epoch.
        metrics: Final losses.
    """
    from pathlib import Path

    from darkroom.files import write_json
    from darkroom.origin import ORIGIN_FILE
    from darkroom.steps import step

    with step("train_gan", metrics) as running:
        from darkroom.gan.config import GanConfig
        from darkroom.gan.train import train

        config = running.configure(
            GanConfig,
            data_md5,
            options,
            epochs=epochs,
            batch_size=batch_size,
            generator_learning_rate=generator_learning_rate,
            discriminator_learning_rate=discriminator_learning_rate,
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
