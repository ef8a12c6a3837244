"""Step 2: check the dataset before anything is spent on it."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def validate_data(
    dataset: Input[Dataset],
    data_md5: str,
    options: dict,
    report: Output[Artifact],
    data_docs: Output[HTML],
    metrics: Output[Metrics],
) -> None:
    """Check the dataset against the expectation suite; a critical failure stops the pipeline.

    Args:
        dataset: The raw dataset.
        data_md5: The dataset's DVC md5.
        options: Fields of ValidateConfig that differ from their defaults.
        report: The validation result, the Data Docs page and statistics per split and class.
        data_docs: The Data Docs page alone, which KFP shows.
        metrics: Expectations met and missed, and the number of images.
    """
    import shutil
    from pathlib import Path

    from darkroom.steps import step

    with step("validate_data", metrics) as running:
        from darkroom.validation.config import ValidateConfig
        from darkroom.validation.validate import check, validate

        config = running.configure(ValidateConfig, data_md5, options)
        running.log_dataset(dataset.path, data_md5)
        result = validate(Path(dataset.path), config, Path(report.path))
        shutil.copyfile(Path(report.path, "index.html"), data_docs.path)
        running.log_files(report.path, "validation")
        running.log_metrics(result.metrics)
        for warning in result.failures("warning"):
            running.warn(str(warning))
        check(result)
