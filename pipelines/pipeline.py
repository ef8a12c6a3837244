"""The pipeline's one definition, for a laptop and for a cluster."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

from kfp import dsl
from kfp.compiler import Compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl import PipelineTask

from components.evaluate_cnn.component import evaluate_cnn
from components.evaluate_gan.component import evaluate_gan
from components.fetch_data.component import fetch_data
from components.preprocess.component import preprocess
from components.register_model.component import register_model
from components.train_cnn.component import train_cnn
from components.train_gan.component import train_gan
from components.validate_data.component import validate_data
from pipelines.config import RunConfig

NAME = "darkroom"
Branch = Literal["cnn", "gan"]
BRANCHES: tuple[Branch, ...] = ("cnn", "gan")
Place = Callable[[PipelineTask], PipelineTask]

DEFAULTS = RunConfig()
CNN = DEFAULTS.cnn
GAN = DEFAULTS.gan


def define_pipeline(place: Place, branches: Collection[Branch] = BRANCHES, *, scheduled_at: str = "") -> Any:
    """Define the pipeline.

    `place` says where and how each task runs: image, resources, environment. `branches` limits the pipeline to one of
    its independent halves, which is how a local run carries on after the other half has failed. `scheduled_at` is the
    tick of a schedule; only the steps that are never cached get it, so that no tick makes the others run again.
    """

    @dsl.pipeline(name=NAME, description="A versioned image dataset in; a gated and registered CNN and GAN out.")
    def darkroom(
        repository: str,
        revision: str = "",
        data_md5: str = "",
        seed: int = DEFAULTS.seed,
        validation_options: dict = {},  # noqa: B006 - KFP reads it as the parameter's default
        preprocess_options: dict = {},  # noqa: B006
        cnn_architecture: str = CNN.architecture,
        cnn_optimizer: str = CNN.optimizer,
        cnn_epochs: int = CNN.epochs,
        cnn_batch_size: int = CNN.batch_size,
        cnn_learning_rate: float = CNN.learning_rate,
        cnn_options: dict = {},  # noqa: B006
        evaluate_cnn_options: dict = {},  # noqa: B006
        gan_epochs: int = GAN.epochs,
        gan_batch_size: int = GAN.batch_size,
        gan_generator_learning_rate: float = GAN.generator_learning_rate,
        gan_discriminator_learning_rate: float = GAN.discriminator_learning_rate,
        gan_options: dict = {},  # noqa: B006
        evaluate_gan_options: dict = {},  # noqa: B006
        gate_options: dict = {},  # noqa: B006
        registration_options: dict = {},  # noqa: B006
    ) -> None:
        """Develop a classifier and a generator.

        1. Fetch one version of the dataset, pinned by DVC.
        2. Validate it; a critical failure stops here.
        3. Preprocess it into train, validation and test splits.
        4. Train the classifier and, independently, the generator.
        5. Evaluate each on the test split.
        6. Register each; the gate decides about the aliases.
        """
        fetched = place(fetch_data(repository=repository, revision=revision, data_md5=data_md5))
        dataset, md5 = fetched.outputs["dataset"], fetched.outputs["Output"]

        validated = place(validate_data(dataset=dataset, data_md5=md5, options=validation_options))

        split = place(preprocess(dataset=dataset, data_md5=md5, seed=seed, options=preprocess_options))
        split.after(validated)
        splits = split.outputs["splits"]

        if "cnn" in branches:
            cnn = place(
                train_cnn(
                    splits=splits,
                    data_md5=md5,
                    architecture=cnn_architecture,
                    optimizer=cnn_optimizer,
                    epochs=cnn_epochs,
                    batch_size=cnn_batch_size,
                    learning_rate=cnn_learning_rate,
                    seed=seed,
                    options=cnn_options,
                )
            )
            measured_cnn = place(
                evaluate_cnn(model=cnn.outputs["model"], splits=splits, data_md5=md5, options=evaluate_cnn_options)
            )
            registered_cnn = register_model(
                kind="cnn",
                model=cnn.outputs["model"],
                evaluation=measured_cnn.outputs["evaluation"],
                splits=splits,
                data_md5=md5,
                seed=seed,
                scheduled_at=scheduled_at,
                gate=gate_options,
                options=registration_options,
            )
            place(registered_cnn).set_caching_options(False)

        if "gan" in branches:
            gan = place(
                train_gan(
                    splits=splits,
                    data_md5=md5,
                    epochs=gan_epochs,
                    batch_size=gan_batch_size,
                    generator_learning_rate=gan_generator_learning_rate,
                    discriminator_learning_rate=gan_discriminator_learning_rate,
                    seed=seed,
                    options=gan_options,
                )
            )
            measured_gan = place(
                evaluate_gan(
                    model=gan.outputs["model"], splits=splits, data_md5=md5, seed=seed, options=evaluate_gan_options
                )
            )
            registered_gan = register_model(
                kind="gan",
                model=gan.outputs["model"],
                evaluation=measured_gan.outputs["evaluation"],
                splits=splits,
                data_md5=md5,
                seed=seed,
                scheduled_at=scheduled_at,
                gate=gate_options,
                options=registration_options,
            )
            place(registered_gan).set_caching_options(False)

    return darkroom


def compile_pipeline(
    place: Place, config: RunConfig, data_md5: str, output: Path, manifest: KubernetesManifestOptions | None = None
) -> None:
    """Compile to KFP's intermediate representation; `config` and `data_md5` become the parameters' defaults.

    With `manifest` the same is wrapped in the custom resources that it names.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(
        define_pipeline(place, scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER),
        str(output),
        pipeline_parameters={"data_md5": data_md5, **config.arguments()},
        kubernetes_manifest_options=manifest,
        kubernetes_manifest_format=manifest is not None,
    )
