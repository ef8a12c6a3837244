from pathlib import Path

import pytest

from darkroom import device

MODERN = "processor : 0\nflags\t\t: fpu avx512f avx512_bf16\nprocessor : 1\nflags\t\t: fpu\n"


@pytest.mark.parametrize(
    ("cpuinfo", "wide", "precision"),
    [
        (MODERN, True, "bfloat16"),
        (MODERN, False, "float32"),
        (MODERN.replace("avx512_bf16", "amx_bf16"), True, "bfloat16"),
        (MODERN.replace("avx512_bf16", "avx2"), True, "float32"),
        ("processor : 0\nFeatures : fp asimd bf16\n", True, "float32"),
        (None, True, "float32"),
    ],
)
def test_a_processor_computes_in_bfloat16_what_it_has_instructions_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, wide: bool, precision: str
) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(device, "_PROCESSOR", tmp_path / "cpuinfo")
    assert device.fastest_precision(wide=wide) == precision


def test_there_is_memory_to_train_in() -> None:
    assert device.memory_bytes() > 10**8
