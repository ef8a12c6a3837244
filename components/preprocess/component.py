"""Step 3: split the dataset and lay it out for memory-mapped reading."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from components.images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def preprocess(
    dataset: Input[Dataset],
    data_md5: str,
    seed: int,
    options: dict,
    splits: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Split the training images into train and validation, stratified by class, and write all splits as arrays.

    Args:
        dataset: The raw dataset.
        data_md5: The dataset's DVC md5.
        seed: Seed of the split.
        options: Fields of PreprocessConfig that differ from their defaults.
        splits: Folders train, validation and test with images.npy, labels.npy and manifest.parquet.
        metrics: Images per split.
    """
    from pathlib import Path

    from darkroom.steps import step

    with step("preprocess", metrics) as running:
        from darkroom.preprocess import PreprocessConfig
        from darkroom.preprocess import preprocess as write_splits

        config = running.configure(PreprocessConfig, data_md5, options, seed=seed)
        running.log_dataset(dataset.path, data_md5)
        counts = write_splits(Path(dataset.path), config, Path(splits.path))
        running.log_metrics(counts)
