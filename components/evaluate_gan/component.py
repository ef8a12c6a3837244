"""Step 5b: measure the generator."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def evaluate_gan(
    model: Input[Model],
    splits: Input[Dataset],
    data_md5: str,
    seed: int,
    options: dict,
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Compare generated with real images, and find out what they are worth as training data.

    Args:
        model: Folder with generator.keras.
        splits: The preprocessed splits.
        data_md5: The dataset's DVC md5.
        seed: Seed of the samples and of the reference classifier.
        options: Fields of EvaluateGanConfig that differ from their defaults.
        evaluation: Metrics, their intervals, agreement per class, the answer about scarce data and pictures.
        metrics: Distances, precision, recall, density, coverage, class agreement, modes, memorisation and usefulness.
    """
    from pathlib import Path

    from darkroom.steps import step

    with step("evaluate_gan", metrics) as running:
        from darkroom.gan.config import EvaluateGanConfig
        from darkroom.gan.evaluate import evaluate

        config = running.configure(EvaluateGanConfig, data_md5, options, seed=seed)
        running.log_dataset(splits.path, data_md5)
        result = evaluate(Path(model.path), Path(splits.path), Path(evaluation.path), config, on_epoch=running.on_epoch)
        running.log_files(evaluation.path, "evaluation")
        running.log_metrics(result)
