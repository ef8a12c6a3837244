"""Parameters of `train_gan` and `evaluate_gan`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from darkroom.config import StepConfig

LossName = Literal["non_saturating", "hinge", "wgan_gp"]
Augmentation = Literal["brightness", "translation", "cutout"]


class GanConfig(StepConfig):
    """Parameters of `train_gan`."""

    epochs: int = Field(6, ge=1, le=1000, description="passes over the training split")
    batch_size: int = Field(64, ge=2, le=4096, description="real images per step; as many are generated")
    latent_size: int = Field(64, ge=1, le=1024, description="length of the noise vector z")
    generator_filters: int = Field(64, ge=8, le=1024, multiple_of=2, description="channels of its smallest feature map")
    discriminator_filters: int = Field(
        32, ge=8, le=1024, description="channels of its largest feature map; twice that in the next"
    )
    loss: LossName = Field("non_saturating", description="of both networks; wgan_gp needs many more steps")
    gradient_penalty: float = Field(10.0, gt=0, le=1000, description="weight of the penalty that belongs to wgan_gp")
    r1: float = Field(0.0, ge=0, le=1000, description="weight of the R1 penalty on real images; 0 leaves it out")
    spectral_normalization: bool = Field(False, description="of every layer of the discriminator")
    augmentations: list[Augmentation] = Field(
        [], description="what the discriminator sees instead of its images, real and generated ones alike"
    )
    generator_learning_rate: float = Field(5e-4, gt=0, le=10)
    discriminator_learning_rate: float = Field(1e-3, gt=0, le=10)
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's decay of the first moment, for both networks")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="per step, of the generator's moving average; 0 keeps none")
    samples_per_class: int = Field(10, ge=1, le=100, description="images in each row of the sample grids")
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.loss == "wgan_gp":
            if self.r1:
                raise ValueError(
                    "r1 pulls the slope to zero, which wgan_gp's own penalty holds at one; set one of them"
                )
            if self.spectral_normalization:
                raise ValueError("spectral_normalization and wgan_gp both bound the critic's slope; set one of them")
        elif self.gradient_penalty != type(self).model_fields["gradient_penalty"].default:
            raise ValueError(f"gradient_penalty belongs to the loss wgan_gp, not to {self.loss}; r1 is the one for it")
        if len(set(self.augmentations)) < len(self.augmentations):
            raise ValueError(f"augmentations names one of them twice: {', '.join(self.augmentations)}")
        return self


class EvaluateGanConfig(StepConfig):
    """Parameters of `evaluate_gan`.

    The `reference_*` fields fix the classifier that judges: change one, and the metrics of earlier runs are no longer
    comparable. Its seed is apart from `seed`, so that a run with another seed meets the same judge.
    """

    samples: int = Field(10_000, ge=100, le=1_000_000, description="generated images that are judged")
    samples_per_class: int = Field(10, ge=1, le=100, description="images in each row of the sample grid")
    seed: int = Field(0, ge=0, lt=2**31, description="of the noise vectors")
    reference_epochs: int = Field(3, ge=1, le=100, description="passes over the training split")
    reference_seed: int = Field(0, ge=0, lt=2**31)
    resamples: int = Field(100, ge=20, le=10_000, description="random halves of the images that intervals rest on")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the intervals")
    modes_per_class: int = Field(10, ge=1, le=1000, description="clusters of real training images that are looked for")
    memorisation_samples: int = Field(2000, ge=10, le=1_000_000, description="samples whose nearest image is looked up")
    classifier_steps: int = Field(300, ge=1, le=100_000, description="batches of 128 for each of the classifiers below")
    scarce_images_per_class: int = Field(20, ge=1, le=10_000, description="real images of which samples are put beside")
    scarce_seeds: int = Field(3, ge=3, le=100, description="choices of these images, each with both classifiers")
