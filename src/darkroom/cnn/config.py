"""Parameters of the steps train_cnn and evaluate_cnn."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from darkroom.config import StepConfig
from darkroom.optimizers import OptimizerName

Architecture = Literal["darkroom_cnn", "darkroom_resnet", "mnist_cnn", "cifar_cnn", "backbone"]
Schedule = Literal["constant", "cosine", "one_cycle"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
# Those of keras.applications that normalise raw pixels themselves.
Backbone = Literal["MobileNetV3Small", "MobileNetV3Large", "EfficientNetV2B0", "ConvNeXtTiny"]

_TUTORIAL_RECIPE = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "dropout": 0.0,
    "crop_padding": 0,
    "horizontal_flip": False,
}


class BackboneConfig(StepConfig):
    """A network of keras.applications as feature extractor: trained head first, then all of it."""

    name: Backbone = "MobileNetV3Small"
    weights: str = Field(
        "imagenet", min_length=1, description="imagenet (downloaded), random, or the path of a .weights.h5 file"
    )
    size: int = Field(96, ge=32, le=512, description="pixels; side of the square that images are resized to")
    frozen_epochs: int = Field(1, ge=0, le=1000, description="first epochs, in which only the head is trained")
    fine_tuning_rate: float = Field(0.1, gt=0, le=1, description="share of the learning rate in the epochs after them")


# Architectures whose convolutions are wide enough for a processor's 16-bit arithmetic to pay.
WIDE: tuple[Architecture, ...] = ("darkroom_resnet",)

# What an architecture trains with where that differs from the defaults below, which are darkroom_cnn's recipe. A value
# that a person gives wins over both.
RECIPES: dict[Architecture, dict[str, Any]] = {
    "darkroom_cnn": {},
    "darkroom_resnet": {
        "epochs": 24,
        "learning_rate": 3e-3,
        "weight_decay": 0.05,
        "crop_padding": 2,
        "cutout": 8,
        "dropout": 0.2,
    },
    "mnist_cnn": {**_TUTORIAL_RECIPE, "epochs": 5, "batch_size": 64},
    "cifar_cnn": {**_TUTORIAL_RECIPE, "epochs": 10, "batch_size": 32},
    "backbone": {"learning_rate": 1e-3, "weight_decay": 0.0, "batch_size": 64, "backbone": BackboneConfig()},
}


class CnnConfig(StepConfig):
    """How the classifier is built and trained.

    A field that is not given takes the architecture's recipe: `CnnConfig(architecture="mnist_cnn").epochs` is 5.
    """

    architecture: Architecture = "darkroom_cnn"
    optimizer: OptimizerName = "adamw"
    epochs: int = Field(14, ge=1, le=1000)
    batch_size: int = Field(96, ge=1, le=4096, description="images per step")
    learning_rate: float = Field(1e-2, gt=0, le=10, description="peak of the schedule")
    schedule: Schedule = Field(
        "one_cycle",
        description="constant; cosine, a half cosine from the peak to zero; or one_cycle, a linear rise before it",
    )
    weight_decay: float = Field(0.02, ge=0, le=1, description="decoupled, times the learning rate, per step")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share of the target spread over all classes")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of the features that the head does not see in training")
    class_weights: Literal["equal", "balanced"] = Field(
        "equal", description="balanced: an image counts inversely to the number of training images of its class"
    )
    crop_padding: int = Field(0, ge=0, le=16, description="pixels; crops of the padded image shift it by up to as many")
    horizontal_flip: bool = Field(True, description="mirror half of the images, where the dataset allows it")
    cutout: int = Field(
        0, ge=0, le=64, description="pixels; side of a square that is blackened in each image; 0 for none"
    )
    patience: int | None = Field(
        None, ge=1, description="epochs without a lower validation loss before training stops; the best epoch is kept"
    )
    precision: Precision = Field(
        "auto", description="of activations; auto: what the device computes fastest. Weights and losses are float32"
    )
    gradient_accumulation: int = Field(1, ge=1, le=256, description="batches whose gradients make one update")
    batch_memory_share: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="of the device's memory that a batch may fill: batch_size is doubled or halved, and the learning "
        "rate scaled with it; 0 leaves both alone",
    )
    backbone: BackboneConfig | None = Field(None, description="of the architecture backbone")
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="before")
    @classmethod
    def _complete_from_recipe(cls, values: Any) -> Any:
        # What is no mapping, or names no known architecture, gets its message from the checks that follow.
        if isinstance(values, dict) and values.get("architecture") in list(RECIPES):
            return {**RECIPES[values["architecture"]], **values}
        return values

    @model_validator(mode="after")
    def _check_backbone(self) -> Self:
        if (self.architecture == "backbone") != (self.backbone is not None):
            raise ValueError("backbone belongs to the architecture backbone, and to no other")
        if self.backbone is not None and self.backbone.frozen_epochs > self.epochs:
            raise ValueError(f"backbone.frozen_epochs must not exceed epochs, which is {self.epochs}")
        return self


class EvaluateCnnConfig(StepConfig):
    """How the classifier is evaluated."""

    batch_size: int = Field(500, ge=1, le=10_000, description="images per step; changes the speed, not the result")
    calibration_bins: int = Field(15, ge=2, le=100, description="equal-width bins of confidence")
    corrupted_images: int = Field(
        2000, ge=0, le=1_000_000, description="test images, of all classes alike, that are corrupted; 0 for none"
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="chooses the images of the picture of predictions and those that are corrupted"
    )
