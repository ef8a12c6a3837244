from pathlib import Path

import numpy as np

from darkroom.data.splits import read_split
from darkroom.gan.config import EvaluateGanConfig
from darkroom.gan.reference import FEATURES, judge, train_reference

CONFIG = EvaluateGanConfig(reference_epochs=8)


def test_learns_reports_and_is_fixed_by_data_and_seed(tiny_splits: Path) -> None:
    train, test = read_split(tiny_splits, "train"), read_split(tiny_splits, "test")
    reports: list[tuple[int, int, dict[str, float]]] = []
    first = judge(train_reference(train, CONFIG, on_epoch=lambda *report: reports.append(report)), test.images)

    assert first.features.shape == (len(test), FEATURES)
    assert first.features.dtype == np.float64
    assert np.mean(first.labels == test.labels) > 0.8
    assert [report[:2] for report in reports] == [(epoch, 8) for epoch in range(1, 9)]
    assert set(reports[0][2]) == {"reference_loss", "reference_accuracy"}

    again = judge(train_reference(train, CONFIG), test.images)
    assert np.array_equal(first.features, again.features)
    other = judge(train_reference(train, CONFIG.model_copy(update={"reference_seed": 1})), test.images)
    assert not np.array_equal(first.features, other.features)
