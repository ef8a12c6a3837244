"""Step 5a: measure the classifier on the test split."""

from kfp import dsl
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from components.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def evaluate_cnn(
    model: Input[Model],
    splits: Input[Dataset],
    data_md5: str,
    options: dict,
    evaluation: Output[Artifact],
    confusion: Output[ClassificationMetrics],
    metrics: Output[Metrics],
) -> None:
    """Measure the classifier on every test image.

    Args:
        model: Folder with model.keras.
        splits: The preprocessed splits.
        data_md5: The dataset's DVC md5.
        options: Fields of EvaluateCnnConfig that differ from their defaults.
        evaluation: Metrics, tables by class, slice and corruption, predictions and pictures.
        confusion: The confusion matrix, which KFP shows.
        metrics: Accuracy with its 95% interval, macro F1, lowest recall, log loss and expected calibration error.
    """
    import shutil
    from pathlib import Path

    from darkroom.steps import step

    with step("evaluate_cnn", metrics) as running:
        from darkroom.cnn.config import EvaluateCnnConfig
        from darkroom.cnn.evaluate import evaluate, read_confusion

        config = running.configure(EvaluateCnnConfig, data_md5, options)
        running.log_dataset(splits.path, data_md5)
        result = evaluate(Path(model.path), Path(splits.path), Path(evaluation.path), config)
        shutil.copyfile(Path(evaluation.path, "confusion.csv"), confusion.path)
        confusion.log_confusion_matrix(*read_confusion(Path(evaluation.path)))
        running.log_files(evaluation.path, "evaluation")
        running.log_metrics(result)
