"""The reference classifier: a fixed network that judges generated images.

It is trained on the real training split alone, and is fixed by that split, the number of epochs and a seed. It shares
nothing with the classifier that the pipeline trains, so work on that one cannot move the generator's metrics.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from darkroom.data.splits import Split
from darkroom.gan.config import EvaluateGanConfig
from darkroom.training import OnEpoch, batches, check_finite, ignore_epoch, make_optimizer, predict, seed_everything

FEATURES = 64
BATCH_SIZE = 128
_LEARNING_RATE = 2e-3
_JUDGE_BATCH_SIZE = 500
# Keras's 0.99 remembers some 100 steps, too long for a judge that trains for some hundreds.
_BATCH_NORM_MOMENTUM = 0.9


@dataclass(frozen=True)
class Judgement:
    """What the reference classifier sees in images: features [N, FEATURES] float64, labels [N] int64."""

    features: NDArray[np.float64]
    labels: NDArray[np.int64]


def build_reference(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Build the classifier: images [B, H, W, C] uint8 -> (logits [B, classes], features [B, FEATURES]) float32.

    The features are the penultimate layer's activations; the logits are linear in them.
    """
    images = layers.Input(image_shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    for filters, kernel_size in ((32, 5), (64, 3)):
        x = layers.Conv2D(filters, kernel_size, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM)(x))
    x = layers.Dense(FEATURES, use_bias=False)(layers.Flatten()(x))
    features = layers.ReLU(name="features")(layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM)(x))
    logits = layers.Dense(classes, name="logits")(layers.Dropout(0.3)(features))
    return keras.Model(images, [logits, features], name="reference")


def train_reference(train: Split, config: EvaluateGanConfig, *, on_epoch: OnEpoch = ignore_epoch) -> keras.Model:
    """Train the classifier on the real training split.

    Raises:
        TrainingError: the loss is NaN or infinite.
    """
    seed_everything(config.reference_seed)
    model = build_reference(train.image_shape, len(train.info.classes))
    stream = batches(train.images, train.labels, BATCH_SIZE, seed=config.reference_seed, shuffle=True)
    classifier = compile_classifier(model, config.reference_epochs * int(stream.cardinality()))

    def report(epoch: int, logs: dict[str, float]) -> None:
        check_finite("reference classifier's loss", logs["loss"], epoch=epoch + 1, batch=int(stream.cardinality()))
        on_epoch(epoch + 1, config.reference_epochs, {f"reference_{name}": value for name, value in logs.items()})

    classifier.fit(
        stream,
        epochs=config.reference_epochs,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
    )
    return model


def compile_classifier(model: keras.Model, steps: int) -> keras.Model:
    """The part of the network that is trained, images to logits, with an optimizer for that many batches."""
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    classifier = keras.Model(model.inputs, model.outputs[0])
    classifier.compile(
        optimizer=make_optimizer("adam", rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return classifier


def judge(reference: keras.Model, images: NDArray[np.uint8]) -> Judgement:
    """Classify images [N, H, W, C] uint8 and take their features."""
    logits, features = predict(reference, images, _JUDGE_BATCH_SIZE)
    # Covariances are summed over thousands of images: in double precision.
    return Judgement(features=features.astype(np.float64), labels=logits.argmax(axis=1))
