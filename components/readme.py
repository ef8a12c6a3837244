"""Writes the README of every component from its docstring: `python -m components.readme`."""

import importlib
from pathlib import Path
from typing import Any

from kfp.dsl.structures import ComponentSpec

FOLDER = Path(__file__).parent
STEPS = sorted(path.parent.name for path in FOLDER.glob("*/component.py"))


def load_component(step: str) -> Any:
    """The KFP component of one step."""
    return importlib.import_module(f"components.{step}.component").__dict__[step]


def readme(step: str) -> str:
    """The README of one component: what it does, its image, its inputs and its outputs."""
    component = load_component(step)
    spec: ComponentSpec = component.component_spec
    text = component.python_func.__doc__.strip()
    summary = text.partition("\n    Args:")[0]
    lines = [f"# {step}", "", *(line.strip() for line in summary.strip().splitlines()), ""]
    lines += [f"Image: `{spec.implementation.container.image.partition(':')[0]}`", ""]
    for title, ports in (("Inputs", spec.inputs), ("Outputs", spec.outputs)):
        lines += [f"## {title}", "", "| name | type | what |", "| --- | --- | --- |"]
        for name, port in (ports or {}).items():
            lines.append(f"| {name} | {_type_name(port.type)} | {_description(text, name)} |")
        lines.append("")
    return "\n".join(lines)


def _type_name(kfp_type: str) -> str:
    return kfp_type.removeprefix("system.").partition("@")[0]


def _description(docstring: str, name: str) -> str:
    """What the docstring says of an argument, or of the value returned, joined to one line."""
    heading = "Returns:" if name == "Output" else f"{name}:"
    found: list[str] = []
    indent = -1
    for line in docstring.splitlines():
        depth = len(line) - len(line.lstrip())
        if indent < 0 and line.strip().startswith(heading):
            indent = depth
            found.append(line.strip().removeprefix(heading))
        elif indent >= 0 and (depth <= indent or not line.strip()):
            break
        elif indent >= 0:
            found.append(line)
    return " ".join(part.strip() for part in found if part.strip())


if __name__ == "__main__":
    for name in STEPS:
        (FOLDER / name / "README.md").write_text(readme(name), encoding="utf-8")
