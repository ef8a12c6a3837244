import numpy as np
import pytest

from darkroom.cnn.slices import slice_accuracy


def test_slices_by_hand() -> None:
    # Eight images of one value each, which is then their mean; the two brightest are wrong.
    values = np.array([0, 10, 20, 30, 40, 50, 60, 70], np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (8, 2, 2, 1))
    labels = np.array([0, 1] * 4)
    right = np.array([True] * 6 + [False] * 2)
    slices = slice_accuracy(images, labels, right, ["even", "odd", "absent"])
    found = {(part.group, part.name): (part.tally.images, part.tally.right) for part in slices}
    assert found["class", "even"] == (4, 3)
    assert found["class", "odd"] == (4, 3)
    assert ("class", "absent") not in found
    assert [found["mean intensity", name] for name in ("lowest", "second", "third", "highest")] == [
        (2, 2),
        (2, 2),
        (2, 2),
        (2, 0),
    ]
    # Equal images stay together: no contrast anywhere, ink in none of three and in all of the others.
    assert found["contrast", "lowest"] == (8, 6)
    assert sum(images for (group, _), (images, _) in found.items() if group == "ink") == 8
    assert found["ink", "lowest"] == (3, 3)


def test_intervals_hold_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 4, 4, 1), dtype=np.uint8)
    for part in slice_accuracy(images, np.zeros(400, int), rng.random(400) < 0.9, ["only"]):
        lower, upper = part.tally.interval
        assert lower < part.tally.accuracy < upper
        assert part.tally.accuracy == pytest.approx(0.9, abs=0.1)
