"""The optimizers that a configuration may name.

They stand apart from `darkroom.training`, which builds them, so that a configuration imports no TensorFlow.
"""

from typing import Literal

OptimizerName = Literal["adam", "adamw", "rmsprop", "sgd"]
