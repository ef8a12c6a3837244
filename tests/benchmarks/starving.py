"""Trainings that wait for their data and that do not, each for a process of its own: determinism forbids the clock."""

import time
from typing import Any

import keras
import tensorflow as tf

from benchmarks.time_to_accuracy import share_of_waiting

BATCH = (tf.ones((64, 512)), tf.ones((64, 1)))


def starved() -> float:
    """The share of waiting where each batch comes after half a second."""

    def pause(number: int) -> Any:
        time.sleep(0.5)
        return number

    late = tf.data.Dataset.range(5).map(lambda number: tf.numpy_function(pause, [number], tf.int64))
    return share_of_waiting(_model(), late.map(lambda _: BATCH))


def fed() -> float:
    """The share of waiting where the batches are there."""
    return share_of_waiting(_model(), tf.data.Dataset.from_tensors(BATCH).repeat(20).prefetch(2))


def _model() -> keras.Model:
    """One whose step takes some milliseconds."""
    model = keras.Sequential([keras.Input((512,)), keras.layers.Dense(2048), keras.layers.Dense(1024)])
    model.compile("sgd", "mse")
    return model
