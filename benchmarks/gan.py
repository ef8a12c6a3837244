"""The GAN against the standard Keras recipe: training steps a second, and image quality after the same time."""

import tempfile
import time
from itertools import count
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.process import ROOT, measure
from benchmarks.table import Claim, Table
from darkroom.data.splits import SplitName

SEEDS = (0, 1, 2)
SECONDS = 60
# Short, so that what else a shared machine does falls on both sides alike.
STEPS_A_ROUND = 50
ROUNDS = 21
STANDARD_LEARNING_RATE = 3e-4


def run() -> Table:
    """Compare the steps round by round in one process, then train each recipe for the same time with each seed."""
    from darkroom.preprocess import PreprocessConfig, preprocess

    with tempfile.TemporaryDirectory() as folder:
        preprocess(ROOT / "data", PreprocessConfig(), Path(folder, "splits"))
        rates = measure("benchmarks.gan:compare_steps", f"{folder}/splits").value
        for seed in SEEDS:
            for side in ("standard", "darkroom"):
                measure(f"benchmarks.gan:train_{side}", f"{folder}/splits", str(seed), f"{folder}/{side}-{seed}")
        judged: dict[str, float] = measure("benchmarks.gan:judge_all", f"{folder}/splits", folder).value
    speed = median(ours / standard for ours, standard in rates)
    pairs = [(judged[f"standard-{seed}"], judged[f"darkroom-{seed}"]) for seed in SEEDS]
    lower = [1 - ours / standard for standard, ours in pairs]
    return Table(
        title="GAN: against the standard recipe",
        notes=(
            "Both sides train the same networks with the same batch size. The standard recipe is the `train_step` of\n"
            "Keras's conditional GAN example: the generator runs twice per step, once for each network's update, with\n"
            f"Adam at {STANDARD_LEARNING_RATE:g} and no averaging. Distances are Frechet distances of 10,000 samples\n"
            "to the test split, in the features of the fixed classifier that `evaluate_gan` uses, after\n"
            f"{SECONDS} s of training."
        ),
        columns=("seed", "standard recipe", "Darkroom", "lower by"),
        rows=[
            (str(seed), f"{standard:.3f}", f"{ours:.3f}", f"{share:.0%}")
            for seed, (standard, ours), share in zip(SEEDS, pairs, lower, strict=True)
        ],
        claims=(
            Claim(
                "at least 1.3 times as many training steps a second",
                f"{speed:.2f} times, the median of {ROUNDS} rounds "
                f"(median rates {median(ours for ours, _ in rates):.1f} and {median(rate for _, rate in rates):.1f})",
                speed >= 1.3,
            ),
            Claim(
                "at least 25% lower Frechet distance after the same time",
                f"{mean(lower):.0%} lower on average",
                mean(lower) >= 0.25,
            ),
        ),
    )


def compare_steps(splits: str) -> list[tuple[float, float]]:
    """Steps a second of Darkroom's step and of the standard one, round by round."""
    import tensorflow as tf

    from darkroom.data.splits import read_split

    split = read_split(Path(splits), "train")
    sides = [_darkroom_step(split, seed=0)[1], _standard_step(split, seed=0)[1]]
    batches = [
        (tf.constant(split.images[start : start + 64]), tf.constant(split.labels[start : start + 64]))
        for start in range(0, 64 * STEPS_A_ROUND, 64)
    ]

    def rate(step: Any) -> float:
        started = time.perf_counter()
        for number, (pixels, labels) in enumerate(batches):
            step(pixels, labels, tf.constant(number, tf.int64)).numpy()
        return len(batches) / (time.perf_counter() - started)

    for step in sides:
        rate(step)  # traces, and warms up
    return [(rate(sides[0]), rate(sides[1])) for _ in range(ROUNDS)]


def train_darkroom(splits: str, seed: str, out: str) -> int:
    """Train Darkroom's recipe, keep the averaged generator; the number of steps."""
    from darkroom.data.splits import read_split

    split = read_split(Path(splits), "train")
    gan, step = _darkroom_step(split, int(seed))
    return _train(split, step, int(seed), gan.averaged, Path(out))


def train_standard(splits: str, seed: str, out: str) -> int:
    """Train the standard recipe, keep its generator; the number of steps."""
    from darkroom.data.splits import read_split

    split = read_split(Path(splits), "train")
    gan, step = _standard_step(split, int(seed))
    return _train(split, step, int(seed), gan.generator, Path(out))


def judge_all(splits: str, folder: str, part: SplitName = "test") -> dict[str, float]:
    """The Frechet distance of each generator in `folder` to a split's images, all under the same classifier."""
    import numpy as np

    from darkroom.data.splits import read_split
    from darkroom.gan.config import EvaluateGanConfig
    from darkroom.gan.distances import frechet_distance
    from darkroom.gan.model import GENERATOR_NAME, load_generator
    from darkroom.gan.reference import judge, train_reference
    from darkroom.gan.samples import generate, to_pixels

    config = EvaluateGanConfig()
    real = read_split(Path(splits), part)
    reference = train_reference(read_split(Path(splits), "train"), config)
    features = judge(reference, real.images).features
    requested = np.resize(real.labels, config.samples)
    distances = {}
    for path in sorted(Path(folder).glob(f"*/{GENERATOR_NAME}")):
        images = to_pixels(generate(load_generator(path.parent), requested, config.seed))
        distances[path.parent.name] = frechet_distance(features, judge(reference, images).features)
    return distances


def _train(split: Any, step: Any, seed: int, generator: Any, out: Path) -> int:
    """Train for `SECONDS`, tracing included, and save the generator."""
    import tensorflow as tf

    from darkroom.archive import save_model
    from darkroom.gan.model import GENERATOR_NAME
    from darkroom.training import batches

    out.mkdir(parents=True)
    started = time.perf_counter()
    stream = batches(split.images, split.labels, 64, seed=seed, shuffle=True, drop_remainder=True).repeat()
    for number, (pixels, labels) in zip(count(), stream, strict=False):
        step(pixels, labels, tf.constant(number, tf.int64)).numpy()
        if time.perf_counter() - started > SECONDS:
            break
    save_model(generator, out / GENERATOR_NAME)
    return number + 1


def _darkroom_step(split: Any, seed: int) -> tuple[Any, Any]:
    from darkroom.gan.config import GanConfig
    from darkroom.gan.step import build_gan, make_optimizers, make_train_step
    from darkroom.training import seed_everything

    config = GanConfig(seed=seed, batch_size=64)
    seed_everything(seed)
    gan = build_gan(split.image_shape, len(split.info.classes), config)
    return gan, make_train_step(gan, make_optimizers(gan, config), config)


def _standard_step(split: Any, seed: int) -> tuple[Any, Any]:
    """The step of keras.io's conditional GAN, on Darkroom's networks."""
    import keras
    import tensorflow as tf

    from darkroom.gan.config import GanConfig
    from darkroom.gan.step import build_gan
    from darkroom.training import seed_everything

    config = GanConfig(seed=seed)
    seed_everything(seed)
    gan = build_gan(split.image_shape, len(split.info.classes), config)
    noise = keras.random.SeedGenerator(seed)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    optimizers = keras.optimizers.Adam(STANDARD_LEARNING_RATE), keras.optimizers.Adam(STANDARD_LEARNING_RATE)
    of_generator, of_discriminator = optimizers
    of_generator.build(gan.generator.trainable_variables)
    of_discriminator.build(gan.discriminator.trainable_variables)

    @tf.function
    def step(pixels: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        real = tf.cast(pixels, tf.float32) / 127.5 - 1.0
        size = tf.shape(real)[0]
        latent = keras.random.normal((size, config.latent_size), seed=noise)
        fake = gan.generator([latent, labels])
        images, classes = tf.concat([fake, real], 0), tf.concat([labels, labels], 0)
        is_fake = tf.concat([tf.ones((size, 1)), tf.zeros((size, 1))], 0)
        with tf.GradientTape() as tape:
            loss_d = cross_entropy(is_fake, -gan.discriminator([images, classes], training=True))
        weights = gan.discriminator.trainable_variables
        of_discriminator.apply(tape.gradient(loss_d, weights), weights)

        latent = keras.random.normal((size, config.latent_size), seed=noise)
        with tf.GradientTape() as tape:
            fake = gan.generator([latent, labels], training=True)
            loss_g = cross_entropy(tf.zeros((size, 1)), -gan.discriminator([fake, labels]))
        weights = gan.generator.trainable_variables
        of_generator.apply(tape.gradient(loss_g, weights), weights)
        return tf.stack([loss_g, loss_d])

    return gan, step
