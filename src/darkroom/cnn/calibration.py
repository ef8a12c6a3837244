"""Temperature scaling: one number that makes a classifier as sure as it is right (Guo et al. 2017, section 4.2).

Probabilities p = softmax(z) of logits z become softmax(z / T). The logits themselves are not needed: log p differs from
z by the same amount for every class of an image, and softmax does not see that. T > 1 makes the classifier less sure,
T < 1 more so; the most probable class stays the same.
"""

import math

import numpy as np
from numpy.typing import NDArray

from darkroom.cnn.metrics import Labels, Probabilities

# A validation split without a mistake asks for T = 0. The bounds keep that, and its opposite, finite.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0


def fit_temperature(labels: Labels, probabilities: Probabilities) -> float:
    """The temperature that gives the lowest log loss of probabilities [N, K] against labels [N].

    The loss is convex in 1/T, so that the search over log T finds its only minimum; it ends within 0.01% of it, or at
    LOWEST_TEMPERATURE or HIGHEST_TEMPERATURE.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax_of_scaled(probabilities, math.exp(log_temperature))[rows, labels].mean())

    bounds = (math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return math.exp(float(found.x))


def calibrate(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Probabilities [N, K] at another temperature, in their own type."""
    return np.exp(log_softmax_of_scaled(probabilities, temperature)).astype(probabilities.dtype)


def log_softmax_of_scaled(probabilities: Probabilities, temperature: float) -> NDArray[np.float64]:
    """Log softmax(log p / T): [N, K].

    A probability of zero counts as the machine epsilon of its type, as it does in `metrics.log_loss`.
    """
    smallest = np.finfo(probabilities.dtype).eps
    scaled = np.log(np.maximum(probabilities, smallest), dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return result
