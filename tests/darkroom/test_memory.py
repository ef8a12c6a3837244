import json
import subprocess
import sys

import numpy as np

from darkroom.memory import peak_rss_mb

CHILD = """
import json
from darkroom.memory import peak_rss_mb
before = peak_rss_mb()
block = bytearray(b"x" * 50_000_000)
del block
print(json.dumps([before, peak_rss_mb()]))
"""


def test_the_peak_holds_what_was_used_and_freed_but_nothing_of_the_parent():
    held = np.ones(40_000_000, np.int64)  # 320 MB in this process
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert peak_rss_mb() > held.nbytes / 1e6
    assert 5 < before < 100
    assert 45 < after - before < 120
