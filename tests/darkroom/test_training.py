from pathlib import Path

import keras
import numpy as np
import pytest

from darkroom.errors import DataError, TrainingError
from darkroom.training import Throttle, batches, check_finite, load_model, make_optimizer, predict, seed_everything


def numbered_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count, dtype=np.int64)
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (count, 2, 3, 1))
    return images, labels


def label_order(dataset) -> list[int]:
    return [int(label) for _, labels in dataset for label in labels]


def test_batches_cover_every_image_once_with_a_smaller_last_batch():
    images, labels = numbered_images(10)
    dataset = batches(images, labels, 4)
    assert [len(batch_labels) for _, batch_labels in dataset] == [4, 4, 2]
    assert label_order(dataset) == list(range(10))
    assert len(dataset) == 3


def test_batches_keep_images_with_their_labels_and_know_their_shape(tmp_path):
    images, labels = numbered_images(10)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    dataset = batches(mapped, labels, 4, shuffle=True)
    for batch_images, batch_labels in dataset:
        assert (batch_images.numpy() == batch_labels.numpy()[:, None, None, None]).all()
    assert dataset.element_spec[0].shape.as_list() == [None, 2, 3, 1]
    assert dataset.element_spec[0].dtype == "uint8"


def test_batches_of_fixed_size_leave_the_remainder_out():
    dataset = batches(*numbered_images(10), 4, drop_remainder=True)
    assert [len(labels) for _, labels in dataset] == [4, 4]
    assert dataset.element_spec[0].shape.as_list() == [4, 2, 3, 1]


def test_shuffled_order_depends_on_the_seed_and_changes_with_every_pass():
    first, again, other = (batches(*numbered_images(50), 8, seed=seed, shuffle=True) for seed in (1, 1, 2))
    passes = [label_order(first), label_order(first)]
    assert passes[0] != passes[1]
    assert [label_order(again), label_order(again)] == passes
    assert label_order(other) not in passes


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_every_optimizer_descends_and_decays_kernels_but_not_biases(name):
    kernel = keras.Variable([[2.0]], name="kernel")
    bias = keras.Variable([2.0], name="bias")
    optimizer = make_optimizer(name, 0.1, weight_decay=0.5)
    optimizer.build([kernel, bias])
    optimizer.apply([keras.ops.zeros((1, 1)), keras.ops.zeros(1)])
    assert float(kernel.value[0, 0]) == pytest.approx(2.0 * (1 - 0.1 * 0.5))
    assert float(bias.value[0]) == 2.0
    before = float(bias.value[0])
    optimizer.apply([keras.ops.ones((1, 1)), keras.ops.ones(1)])
    assert float(bias.value[0]) < before


def test_make_optimizer_passes_options_on():
    assert make_optimizer("adam", 1e-4, beta_1=0.5).beta_1 == 0.5


def test_adamw_without_decay_leaves_weights_of_zero_gradient_alone():
    kernel = keras.Variable([[2.0]], name="kernel")
    optimizer = make_optimizer("adamw", 0.1)
    optimizer.build([kernel])
    optimizer.apply([keras.ops.zeros((1, 1))])
    assert float(kernel.value[0, 0]) == 2.0


def test_seed_everything_repeats_initial_weights():
    def initial_weights(seed: int) -> np.ndarray:
        seed_everything(seed)
        layer = keras.layers.Dense(4)
        layer.build((None, 3))
        return layer.kernel.numpy()

    assert (initial_weights(5) == initial_weights(5)).all()
    assert (initial_weights(5) != initial_weights(6)).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training(value):
    with pytest.raises(TrainingError, match=rf"generator loss is {value} in epoch 2, batch 7"):
        check_finite("generator loss", value, epoch=2, batch=7)
    check_finite("loss", 1.5, epoch=1, batch=1)


def test_throttle_lets_one_report_in_an_interval_through():
    throttle = Throttle(seconds=3600)
    assert [throttle.is_due() for _ in range(3)] == [True, False, False]
    assert all(Throttle(seconds=0).is_due() for _ in range(3))


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"model\.keras: no such file"):
        load_model(tmp_path / "model.keras")


def test_a_truncated_model_is_named(tmp_path: Path):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a zip archive"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"model\.keras: not readable as a Keras model"):
            load_model(path)


def test_nothing_of_a_stream_is_tuned_for_its_iterator_then_ends_late() -> None:
    stream = batches(*numbered_images(10), 4, shuffle=True)
    assert stream.options().autotune.enabled is False
    assert stream.map(lambda images, labels: images).repeat().options().autotune.enabled is False


def test_predictions_come_in_order_for_every_output() -> None:
    images, _ = numbered_images(10)
    taken = keras.Input(images.shape[1:], dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D(dtype="float32")(taken)
    model = keras.Model(taken, [mean, 2 * mean])
    once, twice = predict(model, images, 4)
    np.testing.assert_allclose(once[:, 0], images.mean(axis=(1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(twice, 2 * once)
