"""Parameters of the steps train_cnn and evaluate_cnn."""

from typing import Any, Literal

from pydantic import Field, model_validator

from darkroom.config import StepConfig
from darkroom.optimizers import OptimizerName

Architecture = Literal["darkroom_cnn", "mnist_cnn", "cifar_cnn"]
Schedule = Literal["constant", "one_cycle"]

_TUTORIAL_RECIPE = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "crop_padding": 0,
    "horizontal_flip": False,
}
# What an architecture trains with where that differs from the defaults below, which are darkroom_cnn's recipe. A value
# that a person gives wins over both.
RECIPES: dict[Architecture, dict[str, Any]] = {
    "darkroom_cnn": {},
    "mnist_cnn": {**_TUTORIAL_RECIPE, "epochs": 5, "batch_size": 64},
    "cifar_cnn": {**_TUTORIAL_RECIPE, "epochs": 10, "batch_size": 32},
}


class CnnConfig(StepConfig):
    """How the classifier is built and trained.

    A field that is not given takes the architecture's recipe: `CnnConfig(architecture="mnist_cnn").epochs` is 5.
    """

    architecture: Architecture = "darkroom_cnn"
    optimizer: OptimizerName = "adamw"
    epochs: int = Field(7, ge=1, le=1000)
    batch_size: int = Field(128, ge=1, le=4096, description="images per step")
    learning_rate: float = Field(5e-3, gt=0, le=10, description="peak of the schedule")
    schedule: Schedule = Field(
        "one_cycle", description="constant, or one_cycle: a linear rise to the peak, then a half cosine down to zero"
    )
    weight_decay: float = Field(0.02, ge=0, le=1, description="decoupled, times the learning rate, per step")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share of the target spread over all classes")
    crop_padding: int = Field(1, ge=0, le=16, description="pixels; crops of the padded image shift it by up to as many")
    horizontal_flip: bool = Field(True, description="mirror half of the images, where the dataset allows it")
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="before")
    @classmethod
    def _complete_from_recipe(cls, values: Any) -> Any:
        # What is no mapping, or names no known architecture, gets its message from the checks that follow.
        if isinstance(values, dict) and values.get("architecture") in list(RECIPES):
            return {**RECIPES[values["architecture"]], **values}
        return values


class EvaluateCnnConfig(StepConfig):
    """How the classifier is evaluated."""

    batch_size: int = Field(500, ge=1, le=10_000, description="images per step; changes the speed, not the result")
    calibration_bins: int = Field(15, ge=2, le=100, description="equal-width bins of confidence")
    seed: int = Field(0, ge=0, lt=2**32, description="chooses the 25 images of the picture of predictions")
