"""The losses of the generative adversarial network, by name, on the discriminator's logits.

`discriminator_loss` and `generator_loss` are those of Goodfellow et al. (2014). With the logit l, D = sigmoid(l), hence
-log D = softplus(-l) and -log(1 - D) = softplus(l). Softplus neither overflows nor takes the logarithm of zero,
whatever the logit.

Throughout: real_logits: [B, 1] float32, the verdict on real images x; fake_logits: [B, 1] float32, that on generated
images G(z); both are averaged over their batch, and the result is a scalar.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from darkroom.gan.config import LossName


def discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """L_D = -log D(x) - log(1 - D(G(z))), each term averaged over its batch (Goodfellow et al. 2014, equation 1).

    Returns:
        Scalar in nats; 2 log 2 for a discriminator that cannot tell.
    """
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(fake_logits))


def generator_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """L_G = -log D(G(z)), averaged over the batch: the non-saturating loss (Goodfellow et al. 2014, section 3).

    Unlike log(1 - D(G(z))), its gradient does not vanish while the discriminator rejects every sample.

    Returns:
        Scalar in nats; log 2 for a discriminator that cannot tell.
    """
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def hinge_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """L_D = max(0, 1 - l(x)) + max(0, 1 + l(G(z))) (Lim and Ye 2017; Miyato et al. 2018, equation 16).

    Images beyond the margin of one are no concern of the discriminator any more. 2 where it cannot tell.
    """
    return tf.reduce_mean(tf.nn.relu(1.0 - real_logits)) + tf.reduce_mean(tf.nn.relu(1.0 + fake_logits))


def wasserstein_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """L_D = l(G(z)) - l(x) (Arjovsky et al. 2017, equation 2, with the sign of a loss).

    Its negative estimates the Wasserstein distance as far as the slope of l is at most one, which `gradient_penalty` is
    there for.
    """
    return tf.reduce_mean(fake_logits) - tf.reduce_mean(real_logits)


def linear_generator_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """L_G = -l(G(z)), the generator's side of both the hinge and the Wasserstein loss."""
    return -tf.reduce_mean(fake_logits)


def gradient_penalty(gradients: tf.Tensor) -> tf.Tensor:
    """(|dl/dx| - 1)^2, averaged over the batch (Gulrajani et al. 2017, equation 3), without its weight.

    Args:
        gradients: [B, H, W, C] float32, of the logits by images between real and generated ones.
    """
    return tf.reduce_mean((tf.sqrt(_squared_norms(gradients) + _TINY) - 1.0) ** 2)


def r1_penalty(gradients: tf.Tensor) -> tf.Tensor:
    """|dl/dx|^2 / 2, averaged over the batch (Mescheder et al. 2018, equation 9), without its weight gamma.

    Args:
        gradients: [B, H, W, C] float32, of the logits by real images.
    """
    return tf.reduce_mean(_squared_norms(gradients)) / 2.0


@dataclass(frozen=True)
class AdversarialLoss:
    """Both sides of one game.

    collapsed: a generator's loss that says that no sample passes any more, together with a discriminator that is
    nearly always right; None where the logit's zero means nothing, as with a critic. one_pass: every generated image
    moves the discriminator's loss, so that `turning_factors` exist.
    """

    discriminator: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    generator: Callable[[tf.Tensor], tf.Tensor]
    collapsed: float | None
    one_pass: bool


# Eight nats are a probability of three in ten thousand. So is a logit of -8, which is seven beyond the hinge's margin.
LOSSES: dict[LossName, AdversarialLoss] = {
    "non_saturating": AdversarialLoss(discriminator_loss, generator_loss, collapsed=8.0, one_pass=True),
    "hinge": AdversarialLoss(hinge_discriminator_loss, linear_generator_loss, collapsed=8.0, one_pass=False),
    "wgan_gp": AdversarialLoss(wasserstein_discriminator_loss, linear_generator_loss, collapsed=None, one_pass=True),
}


def turning_factors(loss: AdversarialLoss, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """What turns the discriminator's gradient at each generated image into the generator's: [B, 1] float32.

    Both losses see an image through its logit alone, so their gradients by the image differ by the factor
    (dL_G / dl) / (dL_D / dl) only, and one pass back through the discriminator serves both networks (Shen et al. 2021,
    "Training Generative Adversarial Networks in One Stage"). For the non-saturating loss it is -exp(-l).
    """
    with tf.GradientTape() as of_discriminator, tf.GradientTape() as of_generator:
        of_discriminator.watch(fake_logits)
        of_generator.watch(fake_logits)
        loss_d = loss.discriminator(tf.stop_gradient(real_logits), fake_logits)
        loss_g = loss.generator(fake_logits)
    wanted, had = of_generator.gradient(loss_g, fake_logits), of_discriminator.gradient(loss_d, fake_logits)
    # Below a logit of -87 the discriminator's slope is zero in float32; such an image waits for the next step.
    return tf.math.divide_no_nan(wanted, had)


# Where all gradients are zero, a square root has no slope.
_TINY = 1e-12


def _squared_norms(gradients: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(gradients**2, axis=[1, 2, 3])
