"""Train the classifier."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from darkroom import device
from darkroom.archive import save_model
from darkroom.checkpoint import TrainingState, load_checkpoint, remove_checkpoint, save_checkpoint
from darkroom.cnn.augment import augmentation_layers
from darkroom.cnn.config import WIDE, CnnConfig
from darkroom.cnn.model import (
    Network,
    PixelStatistics,
    build_network,
    dtype_policy,
    inference_model,
    pixel_statistics,
)
from darkroom.cnn.plots import plot_history
from darkroom.cnn.recipe import (
    Phase,
    activation_bytes,
    balanced_weights,
    fit_batch_size,
    make_loss,
    make_phases,
    make_schedule,
    scale_learning_rate,
)
from darkroom.data.splits import Split, read_split
from darkroom.files import write_json
from darkroom.training import (
    OnBatch,
    OnEpoch,
    Throttle,
    assign,
    batches,
    check_finite,
    ignore_batch,
    ignore_epoch,
    make_optimizer,
    seed_everything,
)

MODEL_FILE = "model.keras"


@dataclass(frozen=True)
class TrainingResult:
    """What a training run came to.

    history: loss, accuracy, val_loss, val_accuracy, one value per epoch; metrics: those of the epoch whose weights are
    saved, the last one or with `patience` the best; epochs: how many were trained; seconds: wall time of those that
    this process trained; parameters: number of trained weights; batch_size, learning_rate: as used.
    """

    history: dict[str, list[float]]
    metrics: dict[str, float]
    epochs: int
    seconds: float
    parameters: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class _Plan:
    """What follows from the configuration together with data and device. `steps`: batches per epoch."""

    batch_size: int
    learning_rate: float
    steps: int
    policy: str
    class_weights: dict[int, float] | None


def train(
    splits: Path,
    config: CnnConfig,
    model_dir: Path,
    history_dir: Path,
    *,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = ignore_epoch,
    on_batch: OnBatch = ignore_batch,
) -> TrainingResult:
    """Train on the training split, and measure each epoch on the whole validation split.

    Writes `model.keras` (raw uint8 images in, probabilities out) into `model_dir`, `history.json` and `history.png`
    into `history_dir`. With `checkpoint`, the state after each epoch is kept in that file until the end, and a run that
    finds it there goes on from it, with the same outcome as one that was never stopped.

    Raises:
        DataError: a split is missing or damaged.
        ConfigError: the images do not suit the architecture, or a backbone's weights cannot be had.
        TrainingError: the loss became NaN or infinite.
        OSError: a folder cannot be written; found out before training.
    """
    train_split, validation_split = read_split(splits, "train"), read_split(splits, "validation")
    for folder in (model_dir, history_dir):
        folder.mkdir(parents=True, exist_ok=True)
    seed_everything(config.seed)
    pixels = pixel_statistics(train_split.images)
    policy = _policy(config)
    network = _build(train_split, config, pixels, policy=policy, for_training=True)
    plan = _make_plan(network, train_split, config, policy)
    progress = _Progress(config.epochs, on_epoch, on_batch)
    training = _Training(network, (train_split, validation_split), config, plan, checkpoint, progress)
    started = time.monotonic()
    training.run()
    seconds = time.monotonic() - started

    save_model(inference_model(_to_serve(network, train_split, config, pixels)), model_dir / MODEL_FILE)
    write_json(history_dir / "history.json", training.history)
    plot_history(training.history, history_dir / "history.png")
    if checkpoint is not None:
        remove_checkpoint(checkpoint)
    return TrainingResult(
        history=training.history,
        metrics={name: values[training.kept_epoch - 1] for name, values in training.history.items()},
        epochs=training.epoch,
        seconds=seconds,
        parameters=sum(int(weight.value.shape.num_elements()) for weight in network.model.trainable_weights),
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
    )


def _policy(config: CnnConfig) -> str:
    precision = (
        device.fastest_precision(wide=config.architecture in WIDE) if config.precision == "auto" else config.precision
    )
    return "float32" if precision == "float32" else f"mixed_{precision}"


def _build(
    split: Split, config: CnnConfig, pixels: PixelStatistics, *, policy: str = "float32", for_training: bool = False
) -> Network:
    classes = len(split.info.classes)
    return build_network(config, split.image_shape, classes, pixels, policy=policy, for_training=for_training)


def _to_serve(network: Network, split: Split, config: CnnConfig, pixels: PixelStatistics) -> Network:
    """The same network of Keras's own layers, in float32: what is served must not depend on what trained it."""
    plain = _build(split, config, pixels)
    plain.model.set_weights(network.model.get_weights())
    return plain


def _make_plan(network: Network, split: Split, config: CnnConfig, policy: str) -> _Plan:
    batch_size, learning_rate = config.batch_size, config.learning_rate
    if config.batch_memory_share:
        budget = config.batch_memory_share * device.memory_bytes()
        batch_size = fit_batch_size(batch_size, activation_bytes(network.model), budget, len(split))
        learning_rate = scale_learning_rate(learning_rate, config.optimizer, batch_size / config.batch_size)
    balanced = config.class_weights == "balanced"
    return _Plan(
        batch_size=batch_size,
        learning_rate=learning_rate,
        steps=-(-len(split) // batch_size),
        policy=policy,
        class_weights=balanced_weights(split.labels, len(split.info.classes)) if balanced else None,
    )


class _Training:
    """A training run: the networks, what is kept between epochs, and the epochs themselves."""

    def __init__(
        self,
        network: Network,
        splits: tuple[Split, Split],
        config: CnnConfig,
        plan: _Plan,
        checkpoint: Path | None,
        progress: "_Progress",
    ) -> None:
        self._network = network
        self._train_split, self._validation_split = splits
        self._config = config
        self._plan = plan
        self._checkpoint = checkpoint
        self._progress = progress
        self.history: dict[str, list[float]] = {}
        self.best_epoch = 0
        self._best_weights: list[NDArray[Any]] = []
        augmentation = augmentation_layers(
            crop_padding=config.crop_padding,
            horizontal_flip=config.horizontal_flip and self._train_split.info.horizontal_flip,
            cutout=config.cutout,
            seed=config.seed,
        )
        images = keras.Input(self._train_split.image_shape, dtype="uint8")
        with dtype_policy(plan.policy):
            self._trainer = keras.Sequential([images, *augmentation, network.model])

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history.get("loss", []))

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights the network has in the end."""
        return self.best_epoch if self._config.patience is not None else self.epoch

    def run(self) -> None:
        """Train to the end, from the checkpoint where there is one."""
        state = None if self._checkpoint is None else load_checkpoint(self._checkpoint)
        if state is not None:
            self.history, self.best_epoch = state.progress["history"], state.progress["best_epoch"]
            self._best_weights = state.arrays.get("best", [])
        for phase in make_phases(self._config, self._plan.learning_rate):
            if self.epoch >= phase.last or self._is_over():
                continue
            self._compile(phase)
            if state is not None and self.epoch >= phase.first - 1:
                self._restore(state, same_optimizer=self.epoch >= phase.first)
                state = None
            while self.epoch < phase.last and not self._is_over():
                self._train_epoch()
        if self._config.patience is not None:
            self._network.model.set_weights(self._best_weights)

    def _is_over(self) -> bool:
        patience = self._config.patience
        return patience is not None and self.epoch - self.best_epoch >= patience

    def _compile(self, phase: Phase) -> None:
        if self._network.backbone is not None:
            self._network.backbone.trainable = not phase.frozen
        config = self._config
        steps = (phase.last - phase.first + 1) * self._plan.steps
        accumulated = config.gradient_accumulation
        self._trainer.compile(
            make_optimizer(
                config.optimizer,
                make_schedule(config, phase.learning_rate, steps),
                weight_decay=config.weight_decay,
                gradient_accumulation_steps=accumulated if accumulated > 1 else None,
            ),
            make_loss(label_smoothing=config.label_smoothing, from_logits=self._network.from_logits),
            metrics=["accuracy"],
        )
        self._trainer.optimizer.build(self._trainer.trainable_variables)

    def _train_epoch(self) -> None:
        """Train and validate one epoch, whose order of images depends on the seed and its number alone."""
        config, number = self._config, self.epoch + 1
        images = batches(
            self._train_split.images,
            self._train_split.labels,
            self._plan.batch_size,
            seed=config.seed + number,
            shuffle=True,
        )
        validation = batches(self._validation_split.images, self._validation_split.labels, self._plan.batch_size)
        done = self._trainer.fit(
            images,
            initial_epoch=number - 1,
            epochs=number,
            validation_data=validation,
            class_weight=self._plan.class_weights,
            shuffle=False,  # the batches are
            callbacks=[self._progress],
            verbose=0,
        )
        metrics = {name: float(values[-1]) for name, values in done.history.items()}
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        if config.patience is not None and metrics["val_loss"] <= min(self.history["val_loss"]):
            self.best_epoch, self._best_weights = number, self._network.model.get_weights()
        if self._checkpoint is not None:
            save_checkpoint(self._checkpoint, self._state())
        self._progress.report_epoch(number, metrics)

    def _state(self) -> TrainingState:
        arrays = {"trainer": self._trainer.variables, "optimizer": self._trainer.optimizer.variables}
        values = {group: [variable.numpy() for variable in variables] for group, variables in arrays.items()}
        progress = {"history": self.history, "best_epoch": self.best_epoch}
        return TrainingState({**values, "best": self._best_weights}, progress)

    def _restore(self, state: TrainingState, *, same_optimizer: bool) -> None:
        assign(self._trainer.variables, state.arrays["trainer"])
        if same_optimizer:
            assign(self._trainer.optimizer.variables, state.arrays["optimizer"])


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Watches for divergence and hands Keras's progress on."""

    def __init__(self, epochs: int, on_epoch: OnEpoch, on_batch: OnBatch) -> None:
        super().__init__()
        self._epochs = epochs
        self._epoch = 0
        self._on_epoch = on_epoch
        self._on_batch = on_batch
        self._throttle = Throttle()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch, which Keras does not tell batches."""
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the mean loss of the epoch so far, in which a single NaN stays, and report it now and then."""
        metrics = dict(logs or {})
        check_finite("loss", metrics["loss"], epoch=self._epoch, batch=batch + 1)
        if self._throttle.is_due():
            self._on_batch(self._epoch, self._epochs, batch + 1, self.params["steps"], metrics)

    def report_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Report an epoch with its validation, once its checkpoint is written."""
        self._on_epoch(epoch, self._epochs, metrics)
