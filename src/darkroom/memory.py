"""How much memory this process has used."""

import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_rss_mb() -> float:
    """The largest resident set of this process so far, in megabytes (10^6 bytes).

    Linux starts a new program's `ru_maxrss` at that of the process that started it, so the kernel's own high-water mark
    of this address space is read where there is one.
    """
    if _STATUS.is_file():
        mark = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if mark:
            return round(int(mark[1]) * 1024 / 1e6, 1)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
