"""How long a step's imports take in its image, before the step does anything."""

import ast
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

from components.engines import Docker
from components.readme import FOLDER, STEPS, load_component

ROUNDS = 3
# What KFP starts; it imports the component's body, which imports the rest.
LAUNCHER = "kfp.dsl.executor_main"

_TIMED = """
import importlib, json, sys, time
seconds = []
for module in sys.argv[1:]:
    started = time.perf_counter()
    importlib.import_module(module)
    seconds.append(time.perf_counter() - started)
print(json.dumps(seconds))
"""


def measure_startup(engine: Docker, target: str, full_name: str) -> Iterator[str]:
    """One line per step that runs in the image `target`: the median seconds of what it imports."""
    for step in steps_of(target):
        modules = [LAUNCHER, *step_modules(step)]
        rounds = [json.loads(engine.execute(full_name, ["python3", "-c", _TIMED, *modules])) for _ in range(ROUNDS)]
        kfp, whole = (statistics.median(values) for values in zip(*((s[0], sum(s)) for s in rounds), strict=True))
        yield f"{step}: {whole:.2f} s, of which KFP {kfp:.2f} s"


def steps_of(target: str) -> list[str]:
    """The steps that run in the image `target`; on GPUs those of the image for CPUs."""
    wanted = f"python-{target.removesuffix('-gpu')}"
    images = {step: load_component(step).component_spec.implementation.container.image for step in STEPS}
    return [step for step, name in images.items() if Path(name).name.partition(":")[0] == wanted]


def step_modules(step: str) -> list[str]:
    """The modules of `darkroom` that the body of a component imports, in its order."""
    tree = ast.parse((FOLDER / step / "component.py").read_text(encoding="utf-8"))
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module)
    return list(dict.fromkeys(str(node.module) for node in imports if str(node.module).startswith("darkroom")))
