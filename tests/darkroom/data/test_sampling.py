import numpy as np

from darkroom.data.sampling import draw_per_class, share_per_class


def test_draw_holds_the_asked_number_of_each_class_once_and_in_order() -> None:
    labels = np.array([0, 1] * 50 + [2] * 10, np.uint8)
    rows = draw_per_class(labels, {0: 5, 1: 7, 2: 10}, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [5, 7, 10]
    assert (np.diff(rows) > 0).all()


def test_share_is_rounded_to_the_nearest_row() -> None:
    assert share_per_class(np.array([0] * 14 + [1] * 16 + [3] * 100), 0.1) == {0: 1, 1: 2, 3: 10}
