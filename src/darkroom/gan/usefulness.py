"""What samples are worth as training data for a classifier of real images.

Two questions. How well does a classifier do that has seen samples only (the classification accuracy score)? And where
real images are scarce, do samples beside them help?

What the second answer does not show: the generator was trained on the whole training split, so its samples carry what
it learnt from images that the scarce classifier is denied. A gain is what sharing a generator could bring to somebody
who has few images, and the most that a generator trained on these few could hope for; where even this brings nothing,
samples are of no use here.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.splits import Split
from darkroom.gan.bootstrap import Interval, Selections, means
from darkroom.gan.config import EvaluateGanConfig
from darkroom.gan.reference import BATCH_SIZE, build_reference, compile_classifier
from darkroom.training import assign, batches, predict, seed_everything

_PREDICTED_AT_ONCE = 500


@dataclass(frozen=True)
class Samples:
    """Generated images [M, H, W, C] uint8 and the classes that were asked for, [M] int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Usefulness:
    """Accuracies on real test images.

    accuracy_score: of a classifier trained on samples only. gain: accuracy with samples beside the scarce real images
    less that without, the mean over choices of these images; without, with_samples: the accuracies, one per choice.
    """

    accuracy_score: Interval
    gain: Interval
    without: list[float]
    with_samples: list[float]
    images_per_class: int

    def answer(self) -> str:
        """Whether samples help where real images are scarce, in one sentence with the numbers."""
        if self.gain.lower > 0:
            verdict = "Generated images help"
        elif self.gain.upper < 0:
            verdict = "Generated images do harm"
        else:
            verdict = "No difference is shown by generated images"
        return (
            f"{verdict} a classifier that has {self.images_per_class} real images a class: test accuracy "
            f"{np.mean(self.with_samples):.4f} with them and {np.mean(self.without):.4f} without, a difference of "
            f"{self.gain.value:+.4f} with an interval from {self.gain.lower:+.4f} to {self.gain.upper:+.4f} over "
            f"{len(self.without)} choices of the real images. The generator was trained on all of them."
        )

    def as_json(self) -> dict[str, Any]:
        """All of it, with the answer."""
        return {"answer": self.answer(), **asdict(self)}


def measure_usefulness(
    samples: Samples, train: Split, test: Split, halves: Selections, config: EvaluateGanConfig
) -> Usefulness:
    """Train the classifiers and measure them on the test split; halves: [S, N] of it, see `bootstrap`.

    The accuracy score is that of Ravuri and Vinyals (2019), and its interval covers the choice of test images. In the
    comparison both classifiers start from the same weights and see as many batches; where samples are added, they are
    half of what is seen. The interval of the gain is Student's, over the choices of real images.
    """
    classifier = _Classifier(train.image_shape, len(train.info.classes), config.classifier_steps)
    right = classifier.train(samples.images, samples.labels, config.reference_seed).is_right(test)
    score = Interval.of(means(right, halves), config.confidence, least=0, most=1)
    without, with_samples = [], []
    for seed in range(config.scarce_seeds):
        few = _few_of_each(train, config.scarce_images_per_class, seed)
        without.append(float(classifier.train(few.images, few.labels, seed).is_right(test).mean()))
        both = _beside(few, samples)
        with_samples.append(float(classifier.train(both.images, both.labels, seed).is_right(test).mean()))
    gain = student_interval(np.subtract(with_samples, without), config.confidence)
    return Usefulness(score, gain, without, with_samples, config.scarce_images_per_class)


def student_interval(values: NDArray[np.float64], confidence: float) -> Interval:
    """The mean of a few values and its interval: mean +- t s / sqrt(n), with n - 1 degrees of freedom."""
    from scipy.stats import t

    value = float(values.mean())
    reach = float(t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(value, value - reach, value + reach)


class _Classifier:
    """A network like the reference classifier, compiled once and trained again and again from new weights."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int, steps: int) -> None:
        self._shape, self._classes, self._steps = image_shape, classes, steps
        self._network = build_reference(image_shape, classes)
        self._trained = compile_classifier(self._network, steps)
        self._trained.optimizer.build(self._trained.trainable_variables)
        self._fresh = [variable.numpy() for variable in self._trained.optimizer.variables]

    def train(self, images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> "_Classifier":
        """Start again, from the weights that belong to `seed`."""
        seed_everything(seed)
        # All variables, not the weights alone: the state of the dropout's random numbers is one of them.
        new = build_reference(self._shape, self._classes)
        assign(self._network.variables, [variable.numpy() for variable in new.variables])
        assign(self._trained.optimizer.variables, self._fresh)
        stream = batches(images, labels, BATCH_SIZE, seed=seed, shuffle=True).repeat()
        self._trained.fit(stream, steps_per_epoch=self._steps, epochs=1, shuffle=False, verbose=0)
        return self

    def is_right(self, split: Split) -> NDArray[np.bool_]:
        """Whether each image of a split is classified correctly: [N]."""
        logits = predict(self._trained, split.images, _PREDICTED_AT_ONCE)
        right: NDArray[np.bool_] = logits.argmax(axis=1) == split.labels
        return right


def _few_of_each(train: Split, count: int, seed: int) -> Samples:
    """`count` random images of each class, or all where there are fewer."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(train.labels)
    rows = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)])
    return Samples(np.array(train.images[rows]), labels[rows])


def _beside(few: Samples, samples: Samples) -> Samples:
    """Real images, repeated to be as many as the samples, together with these."""
    rows = np.resize(np.arange(len(few.labels)), len(samples.labels))
    return Samples(
        np.concatenate([few.images[rows], samples.images]), np.concatenate([few.labels[rows], samples.labels])
    )
