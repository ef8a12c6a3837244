"""Datasets: where they come from, how they are pinned, checked and split."""
