"""Step 1: get one version of the dataset."""

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

from components.images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def fetch_data(
    repository: str, revision: str, data_md5: str, dataset: Output[Dataset], metrics: Output[Metrics]
) -> str:
    """Copy the dataset that a git repository pins with DVC, and hash every object again.

    Args:
        repository: Address or path of the git repository that holds data.dvc.
        revision: Git revision; empty for the working tree.
        data_md5: The DVC md5 that the dataset must have; empty for whatever data.dvc says.
        dataset: The raw dataset: dataset.yaml and the files that it names.
        metrics: Number of files and of bytes.

    Returns:
        The dataset's DVC md5, which later steps carry as a parameter because KFP's cache key never looks at content.
    """
    from pathlib import Path

    from darkroom.steps import step

    with step("fetch_data", metrics) as running:
        from darkroom.fetch_data import FetchConfig, fetch

        config = running.configure(
            FetchConfig, data_md5, {}, repository=repository, revision=revision, data_md5=data_md5
        )
        result = fetch(config, Path(dataset.path))
        dataset.metadata["name"] = result.name
        dataset.metadata["md5"] = result.md5
        running.log_dataset(dataset.path, result.md5)
        running.log_metrics({"files": result.files, "bytes": result.bytes})
    return result.md5
