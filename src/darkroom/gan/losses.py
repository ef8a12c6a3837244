"""The two losses of the generative adversarial network (Goodfellow et al. 2014), on logits.

With the discriminator's logit l, D = sigmoid(l), hence -log D = softplus(-l) and -log(1 - D) = softplus(l). Softplus
neither overflows nor takes the logarithm of zero, whatever the logit.
"""

import tensorflow as tf


def discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """L_D = -log D(x) - log(1 - D(G(z))), each term averaged over its batch (Goodfellow et al. 2014, equation 1).

    Args:
        real_logits: [B, 1] float32, the discriminator's verdict on real images x.
        fake_logits: [B, 1] float32, its verdict on generated images G(z).

    Returns:
        Scalar in nats; 2 log 2 for a discriminator that cannot tell.
    """
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(fake_logits))


def generator_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """L_G = -log D(G(z)), averaged over the batch: the non-saturating loss (Goodfellow et al. 2014, section 3).

    Unlike log(1 - D(G(z))), its gradient does not vanish while the discriminator rejects every sample.

    Args:
        fake_logits: [B, 1] float32, the discriminator's verdict on generated images G(z).

    Returns:
        Scalar in nats; log 2 for a discriminator that cannot tell.
    """
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))
