"""The limits of data validation."""

from pydantic import Field

from darkroom.config import StepConfig


class ValidateConfig(StepConfig):
    """How much of each fault a dataset may have.

    The values in brackets were measured on Fashion-MNIST (60,000 + 10,000 images); each default leaves room for
    datasets that are less clean and still stops what would spoil a model or the measurement of it. A share is a part
    of 1.
    """

    # [0] Duplicates weigh their images double; one in a hundred changes a mean loss by about as much.
    max_duplicate_share: float = Field(default=0.01, ge=0, le=1, description="training images seen before in training")
    # [0] At worst the test accuracy is too high by this share: a third of its standard error, 0.003, at 0.91 of 10,000.
    max_leakage_share: float = Field(default=0.001, ge=0, le=1, description="test images whose pixels are in training")
    # [0] No model can be right on both copies, so this bounds the accuracy that is lost to labelling.
    max_conflict_share: float = Field(default=0.001, ge=0, le=1, description="images that carry two different labels")
    # [0] A blank image is a failed conversion, and it rarely comes alone.
    max_blank_share: float = Field(default=0.0, ge=0, le=1, description="images in which all pixels are equal")
    # [1.0] Above, a constant guess of the largest class begins to pay.
    max_class_imbalance: float = Field(default=10.0, ge=1, description="largest class over smallest, in one split")
    # [6,000 and 1,000] Below, one test image moves a class's recall by more than five points.
    min_images_per_class: int = Field(default=20, ge=1, description="images of each class in each split")
    # [16.5] The flattest garment has three times this standard deviation.
    min_contrast: float = Field(
        default=5.0, ge=0, le=127.5, description="standard deviation of an image, of 255 levels"
    )
    # [255] Pixels that were stored as 0 to 1 or 0 to 16 without rescaling stay far below.
    min_peak_intensity: int = Field(default=128, ge=1, le=255, description="brightest pixel of a split")
    # [0.2] Ten levels are a ninth of the pixels' standard deviation, 90.
    max_intensity_shift: float = Field(
        default=10.0, ge=0, le=255, description="test mean from training mean, in levels"
    )
