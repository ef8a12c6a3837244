"""The picture of a GAN's training."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from darkroom.gan.config import LossName


def plot_history(history: dict[str, list[float]], path: Path, loss: LossName) -> None:
    """Draw losses and the discriminator's accuracy per epoch; history: {metric: [per epoch]}."""
    epochs = range(1, len(history["generator_loss"]) + 1)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    losses.plot(epochs, history["generator_loss"], marker="o", label="generator")
    losses.plot(epochs, history["discriminator_loss"], marker="o", label="discriminator")
    losses.set(xlabel="epoch", ylabel="loss", title=f"Losses ({loss})")
    if loss == "non_saturating":
        losses.set(ylabel="loss (nats)", ylim=(0, None))
    losses.legend()
    accuracy.plot(epochs, history["discriminator_accuracy"], marker="o", color="tab:green")
    accuracy.axhline(0.5, linestyle="--", color="grey", label="guessing")
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="Discriminator: real or generated", ylim=(0, 1.02))
    accuracy.legend()
    for axes in (losses, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
