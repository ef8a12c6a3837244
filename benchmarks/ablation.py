"""What each choice of the default recipes is worth: `python -m benchmarks.ablation` writes `docs/ablations.md`.

`python -m benchmarks.ablation generator` repeats one of its two tables. One choice is taken back at a time. Models are
compared on the validation split, never on the test split: the defaults were chosen by such comparisons. Cost is the
processor time of training, which other work on the machine disturbs little.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.process import ROOT, measure
from benchmarks.table import Table
from darkroom.cnn.config import CnnConfig

PAGE = ROOT / "docs" / "ablations.md"
KEPT = ROOT / "runs" / "ablations"
HEAD = """# Ablations

What each choice of the default recipes is worth, one taken back at a time. Written by `python -m benchmarks.ablation`;
the sentences about the figures are in [decisions.md](decisions.md). Figures are means over seeds with their standard
deviation; a difference well within that is no difference.

"""
SEEDS = (0, 1, 2)
CNN_EPOCHS = 3
# Kept of the average in each step: an average over some 100 steps.
AVERAGING = 0.99
AVERAGED = f"exponential average of the weights, {AVERAGING}"
GAN_EPOCHS = 1

# darkroom_cnn's recipe, spelt out for another architecture, which would bring its own.
USUAL = {
    name: getattr(CnnConfig(), name)
    for name in ("optimizer", "batch_size", "learning_rate", "schedule", "weight_decay", "label_smoothing", "dropout")
}
CNN: dict[str, dict[str, Any]] = {
    "default recipe": {},
    "the tutorial's network": {"architecture": "mnist_cnn", **USUAL},
    "learning rate of 5e-3": {"learning_rate": 5e-3},
    "batch size 192": {"batch_size": 192},
    "constant learning rate of 1e-3": {"schedule": "constant", "learning_rate": 1e-3},
    "cosine without warm-up": {"schedule": "cosine"},
    "adam, no weight decay": {"optimizer": "adam", "weight_decay": 0.0},
    "no label smoothing": {"label_smoothing": 0.0},
    "no dropout": {"dropout": 0.0},
    "no horizontal flip": {"horizontal_flip": False},
    "random crops, 2 pixels": {"crop_padding": 2},
    "cutout, 8 pixels": {"cutout": 8},
    "activations in bfloat16": {"precision": "bfloat16"},
    AVERAGED: {},
}
GAN: dict[str, dict[str, Any]] = {
    "default recipe": {},
    "no weight averaging": {"ema_decay": 0.0},
    "Adam's usual first moment, 0.9": {"beta1": 0.9},
    "the discriminator's learning rate halved": {"discriminator_learning_rate": 5e-4},
    "hinge loss": {"loss": "hinge"},
    "WGAN-GP": {"loss": "wgan_gp"},
    "spectral normalisation": {"spectral_normalization": True},
    "R1, weight 0.1": {"r1": 0.1},
    "differentiable augmentation": {"augmentations": ["brightness", "translation", "cutout"]},
}


def main() -> int:
    """Train every variant with every seed, in processes of their own, and write the page from what is kept."""
    from darkroom.preprocess import PreprocessConfig, preprocess

    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(TABLES)}; all by default")
    names = parser.parse_args().names or list(TABLES)
    if not set(names) <= set(TABLES):
        parser.error(f"unknown table among {', '.join(names)}; known: {', '.join(TABLES)}")
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        preprocess(ROOT / "data", PreprocessConfig(), Path(folder, "splits"))
        for name in names:
            table = TABLES[name](f"{folder}/splits", folder)
            (KEPT / f"{name}.md").write_text(table.markdown(), encoding="utf-8")
    kept = [KEPT / f"{name}.md" for name in TABLES if (KEPT / f"{name}.md").is_file()]
    PAGE.write_text(HEAD + "\n".join(part.read_text(encoding="utf-8") for part in kept), encoding="utf-8")
    return 0


def train_classifier(splits: str, changes: str) -> tuple[float, float]:
    """Validation accuracy after training, and its processor seconds."""
    from darkroom.cnn.train import train

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        result = train(Path(splits), CnnConfig.parse(json.loads(changes)), Path(folder), Path(folder))
        return result.metrics["val_accuracy"], time.process_time() - started


def train_averaged_classifier(splits: str, changes: str) -> tuple[float, float]:
    """The same for a choice that the step does not offer: the exponential average of the weights is what is kept."""
    import keras

    from darkroom.cnn.augment import augmentation_layers
    from darkroom.cnn.model import build_network, pixel_statistics
    from darkroom.cnn.recipe import make_loss, make_schedule
    from darkroom.data.splits import read_split
    from darkroom.training import batches, make_optimizer, seed_everything

    config = CnnConfig.parse(json.loads(changes))
    train, validation = read_split(Path(splits), "train"), read_split(Path(splits), "validation")
    started = time.process_time()
    seed_everything(config.seed)
    pixels = pixel_statistics(train.images)
    network = build_network(config, train.image_shape, len(train.info.classes), pixels, for_training=True)
    augmentation = augmentation_layers(
        crop_padding=config.crop_padding, horizontal_flip=config.horizontal_flip, cutout=config.cutout, seed=config.seed
    )
    model = keras.Sequential([keras.Input(train.image_shape, dtype="uint8"), *augmentation, network.model])
    images = batches(train.images, train.labels, config.batch_size, seed=config.seed, shuffle=True)
    schedule = make_schedule(config, config.learning_rate, config.epochs * len(images))
    # Keras gives the weights their averages when `fit` ends.
    averaging = {"use_ema": True, "ema_momentum": AVERAGING}
    optimizer = make_optimizer(config.optimizer, schedule, weight_decay=config.weight_decay, **averaging)
    loss = make_loss(label_smoothing=config.label_smoothing, from_logits=network.from_logits)
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(images, epochs=config.epochs, verbose=0)
    held_out = batches(validation.images, validation.labels, config.batch_size)
    return model.evaluate(held_out, verbose=0, return_dict=True)["accuracy"], time.process_time() - started


def train_generator(splits: str, changes: str, out: str) -> float:
    """Keep the generator in `out`; the processor seconds of training."""
    from darkroom.gan.config import GanConfig
    from darkroom.gan.train import train

    started = time.process_time()
    train(Path(splits), GanConfig.parse(json.loads(changes)), Path(out), Path(out))
    return time.process_time() - started


def judge_generators(splits: str, folder: str) -> dict[str, float]:
    """The Frechet distance of each generator in `folder` to the validation split, under the same classifier."""
    from benchmarks.gan import judge_all

    return judge_all(splits, folder, "validation")


def _compare_classifiers(splits: str, folder: str) -> Table:
    rows = []
    for name, changes in CNN.items():
        function = "train_averaged_classifier" if name == AVERAGED else "train_classifier"
        config = {"epochs": CNN_EPOCHS, **changes}
        found = [
            measure(f"benchmarks.ablation:{function}", splits, json.dumps({**config, "seed": seed})).value
            for seed in SEEDS
        ]
        rows.append((name, [accuracy for accuracy, _ in found], [seconds for _, seconds in found]))
        print(rows[-1], file=sys.stderr, flush=True)
    return Table(
        title="Classifier",
        notes=f"{CNN_EPOCHS} epochs on Fashion-MNIST, {len(SEEDS)} seeds; accuracy on the 6,000 validation images.",
        columns=("what differs", "validation accuracy", "cost"),
        rows=_cells(rows, 4),
    )


def _compare_generators(splits: str, folder: str) -> Table:
    costs: dict[str, list[float]] = {}
    for number, (name, changes) in enumerate(GAN.items()):
        config = {"epochs": GAN_EPOCHS, **changes}
        costs[name] = [
            measure(
                "benchmarks.ablation:train_generator",
                splits,
                json.dumps({**config, "seed": seed}),
                f"{folder}/{number}-{seed}",
            ).value
            for seed in SEEDS
        ]
        print(name, costs[name], file=sys.stderr, flush=True)
    judged = measure("benchmarks.ablation:judge_generators", splits, folder).value
    rows = [(name, [judged[f"{number}-{seed}"] for seed in SEEDS], costs[name]) for number, name in enumerate(GAN)]
    return Table(
        title="GAN",
        notes=(
            f"{GAN_EPOCHS} epoch on Fashion-MNIST, {len(SEEDS)} seeds; Frechet distance of 10,000 samples to the\n"
            "6,000 validation images in the features of the classifier that `evaluate_gan` uses; less is better."
        ),
        columns=("what differs", "Frechet distance", "cost"),
        rows=_cells(rows, 3),
    )


def _cells(rows: list[tuple[str, list[float], list[float]]], digits: int) -> list[tuple[str, str, str]]:
    usual = mean(rows[0][2])
    return [
        (name, f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}", f"{mean(costs) / usual:.2f}")
        for name, values, costs in rows
    ]


TABLES: Mapping[str, Callable[[str, str], Table]] = {
    "classifier": _compare_classifiers,
    "generator": _compare_generators,
}

if __name__ == "__main__":
    sys.exit(main())
