"""Distances between the features of real and of generated images. NumPy only.

Neither is the FID or the KID: those names stand for the features of one Inception network.
"""

import numpy as np
from numpy.typing import NDArray

from darkroom.gan.bootstrap import Selections

Features = NDArray[np.float64]

_BLOCK = 1000


def frechet_distance(real: Features, generated: Features) -> float:
    """Frechet distance between the Gaussians fitted to two sets of features (Heusel et al. 2017, equation 6).

    d^2 = |m_r - m_g|^2 + Tr(C_r + C_g - 2 (C_r C_g)^(1/2)), where m and C are mean and covariance. As in that paper,
    what is reported is d^2. It is not the Frechet Inception Distance, whose features come from an Inception network.

    Args:
        real: [N, F] features of real images.
        generated: [M, F] features of generated images.

    Raises:
        ValueError: fewer than two rows, from which no covariance can be estimated.
    """
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"a covariance needs two rows of features, got {len(real)} and {len(generated)}")
    return gaussian_frechet_distance(
        real.mean(axis=0), _covariance(real), generated.mean(axis=0), _covariance(generated)
    )


def frechet_distances(
    real: Features, generated: Features, of_real: Selections, of_generated: Selections
) -> NDArray[np.float64]:
    """`frechet_distance` of each selection of real and generated features."""
    pairs = zip(of_real, of_generated, strict=True)
    return np.array([frechet_distance(real[chosen], generated[drawn]) for chosen, drawn in pairs])


def gaussian_frechet_distance(mean_a: Features, cov_a: Features, mean_b: Features, cov_b: Features) -> float:
    """Frechet distance of two Gaussians, with means [F] and covariances [F, F] (Dowson and Landau 1982).

    C_a C_b is not symmetric, and its numerical square root may come out complex. C_a^(1/2) C_b C_a^(1/2) is symmetric
    and has the same eigenvalues; the trace of the root is the sum of their roots. Eigenvalues that rounding made
    negative count as zero.
    """
    root_a = _symmetric_root(cov_a)
    eigenvalues = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
    trace_of_root = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_of_root
    return max(float(distance), 0.0)


def kernel_distances(
    real: Features, generated: Features, of_real: Selections, of_generated: Selections
) -> NDArray[np.float64]:
    """Unbiased squared maximum mean discrepancy of each selection (Gretton et al. 2012, equation 3).

    The mean of k(x, x') over pairs of different real images, plus that over pairs of different generated images, less
    twice the mean of k(x, y) over real with generated ones. The kernel k(x, y) = (x . y / F + 1)^3 is that of the
    kernel inception distance (Binkowski et al. 2018, section 4). Of equal distributions it is 0 on average, so a small
    negative value is no error.

    Args:
        real: [N, F] features of real images.
        generated: [M, F] features of generated images.
        of_real: [S, N], the chosen real images, two at least in each selection.
        of_generated: [S, M], likewise.

    Returns:
        [S]
    """
    n, m = of_real.sum(axis=1), of_generated.sum(axis=1)
    within_real = _kernel_sums(real, of_real, real, of_real) - of_real @ _polynomial(np.sum(real**2, axis=1), real)
    within_generated = _kernel_sums(generated, of_generated, generated, of_generated) - of_generated @ _polynomial(
        np.sum(generated**2, axis=1), generated
    )
    across = _kernel_sums(real, of_real, generated, of_generated)
    result: NDArray[np.float64] = within_real / (n * (n - 1)) + within_generated / (m * (m - 1)) - 2 * across / (n * m)
    return result


def _kernel_sums(a: Features, of_a: Selections, b: Features, of_b: Selections) -> NDArray[np.float64]:
    """The sum of the kernel over all pairs of each selection: [S]; its matrix exists in blocks of rows only."""
    total = np.zeros(len(of_a))
    weights_b = of_b.T.astype(np.float64)
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, start + _BLOCK)
        sums = _polynomial(a[rows] @ b.T, a) @ weights_b
        total += np.einsum("ns,sn->s", sums, of_a[:, rows].astype(np.float64))
    return total


def _polynomial(products: Features, features: Features) -> Features:
    base = products / features.shape[1] + 1
    cubes: Features = base * base * base
    return cubes


def _covariance(features: Features) -> Features:
    # np.cov gives a scalar for one feature.
    return np.atleast_2d(np.cov(features, rowvar=False))


def _symmetric_root(matrix: Features) -> Features:
    eigenvalues, vectors = np.linalg.eigh(matrix)
    root: Features = (vectors * np.sqrt(np.clip(eigenvalues, 0, None))) @ vectors.T
    return root
