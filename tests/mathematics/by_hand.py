"""The formulas of docs/mathematics.md in NumPy, loop by loop as they are written there, in float64.

Slow on purpose: each index of a formula is an index here. Images are [B, H, W, C], kernels [R, S, C, F].
"""

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def output_size(size: int, kernel: int, stride: int, padding: str) -> int:
    """Positions of a kernel along one side of `size` pixels."""
    return math.ceil(size / stride) if padding == "same" else (size - kernel) // stride + 1


def padding_before(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Pixels that are added before and after one side."""
    if padding == "valid":
        return 0, 0
    total = max((output_size(size, kernel, stride, "same") - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad(x: Array, kernel: int, stride: int, padding: str, value: float = 0.0) -> Array:
    """Frame images for a square kernel."""
    rows, columns = (padding_before(size, kernel, stride, padding) for size in x.shape[1:3])
    return np.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=value)


def convolve(x: Array, w: Array, bias: Array, stride: int = 1, padding: str = "valid") -> Array:
    """Cross-correlation: y[i, j, f] = bias[f] + sum over u, v, c of x[i s + u, j s + v, c] w[u, v, c, f]."""
    height, width = (output_size(size, len(w), stride, padding) for size in x.shape[1:3])
    padded = pad(x, len(w), stride, padding)
    y = np.zeros((len(x), height, width, w.shape[3]))
    for b, i, j, f in np.ndindex(y.shape):
        y[b, i, j, f] = bias[f]
        for u, v, c in np.ndindex(w.shape[:3]):
            y[b, i, j, f] += padded[b, i * stride + u, j * stride + v, c] * w[u, v, c, f]
    return y


def convolve_transposed(y: Array, w: Array, size: tuple[int, int], stride: int, padding: str) -> Array:
    """The adjoint of `convolve`: every y[i, j, f] is spread over the pixels of [B, *size, C] that it was made of."""
    before = [padding_before(side, len(w), stride, padding) for side in size]
    padded = np.zeros((len(y), size[0] + sum(before[0]), size[1] + sum(before[1]), w.shape[2]))
    for b, i, j, f in np.ndindex(y.shape):
        for u, v, c in np.ndindex(w.shape[:3]):
            padded[b, i * stride + u, j * stride + v, c] += y[b, i, j, f] * w[u, v, c, f]
    (top, _), (left, _) = before
    return padded[:, top : top + size[0], left : left + size[1]]


def max_pool(x: Array, window: int = 2, stride: int = 2, padding: str = "valid") -> Array:
    """The largest value in each window; what is padded never wins."""
    height, width = (output_size(size, window, stride, padding) for size in x.shape[1:3])
    padded = pad(x, window, stride, padding, value=-np.inf)
    y = np.zeros((len(x), height, width, x.shape[3]))
    for b, i, j, c in np.ndindex(y.shape):
        y[b, i, j, c] = max(padded[b, i * stride + u, j * stride + v, c] for u, v in product(range(window), repeat=2))
    return y


def max_pool_gradient(x: Array, gradient: Array, window: int = 2) -> Array:
    """Each window's gradient goes to its largest value; windows side by side, without padding."""
    result = np.zeros_like(x)
    for b, i, j, c in np.ndindex(gradient.shape):
        places = [(i * window + u, j * window + v) for u, v in product(range(window), repeat=2)]
        row, column = max(places, key=lambda place: x[b, *place, c])
        result[b, row, column, c] += gradient[b, i, j, c]
    return result


def softmax(z: Array) -> Array:
    """Row by row, the largest logit subtracted first."""
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(z: Array) -> Array:
    """Without the logarithm of a small number."""
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def smoothed_targets(labels: NDArray[np.int64], classes: int, smoothing: float) -> Array:
    """The label's class gets 1 - e + e / K, every other e / K."""
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes


def cross_entropy(targets: Array, z: Array) -> Array:
    """One value per row, from logits, in nats."""
    return -(targets * log_softmax(z)).sum(axis=-1)


def sigmoid(logit: Array) -> Array:
    """D of the discriminator's logit."""
    return 1 / (1 + np.exp(-logit))


def kl(p: Array, q: Array) -> float:
    """Kullback-Leibler divergence of discrete distributions without zeros, in nats."""
    return float((p * np.log(p / q)).sum())


def js(p: Array, q: Array) -> float:
    """Jensen-Shannon divergence: the mean divergence from the mixture, in nats; at most log 2."""
    mixture = (p + q) / 2
    return (kl(p, mixture) + kl(q, mixture)) / 2
