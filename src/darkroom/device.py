"""What the device that trains can do: its memory, and the precision that it computes fastest in."""

from pathlib import Path

import psutil
import tensorflow as tf

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Compute capability from which tensor cores take bfloat16 (Ampere) and float16 (Volta).
_BFLOAT16_CAPABILITY = (8, 0)
_FLOAT16_CAPABILITY = (7, 0)
_PROCESSOR = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def memory_bytes() -> int:
    """Memory for training, in bytes: of the first GPU, or else what this machine or container has free."""
    if tf.config.list_physical_devices("GPU"):
        from tensorflow.python.client import device_lib

        return int(
            next(device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU")
        )
    free = psutil.virtual_memory().available
    if not _CGROUP_LIMIT.is_file():
        return int(free)
    limit = _CGROUP_LIMIT.read_text().strip()
    return int(free if limit == "max" else min(free, int(limit)))


def fastest_precision(*, wide: bool) -> str:
    """`bfloat16` or `float16` on a device that computes faster in it, `float32` elsewhere.

    GPUs gain by their tensor cores. A processor with instructions for bfloat16 gains where convolutions are `wide`, of
    64 channels and more; in small ones the gain is a tenth at most (docs/ablations.md).
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "bfloat16" if wide and _BFLOAT16_FLAGS & _processor_flags() else "float32"
    capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
    if capability >= _BFLOAT16_CAPABILITY:
        return "bfloat16"
    return "float16" if capability >= _FLOAT16_CAPABILITY else "float32"


def _processor_flags() -> set[str]:
    """The instruction sets that Linux names; none elsewhere."""
    if not _PROCESSOR.is_file():
        return set()
    lines = _PROCESSOR.read_text(encoding="utf-8").splitlines()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())
