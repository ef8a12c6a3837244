"""A digest of the code that a step runs, for the cache key of local runs.

On a cluster the image's tag, the git commit, stands for the code. On a laptop the code changes between commits, and a
change in one branch must not throw away the other's results. So each step's key holds a digest of the modules that its
component reaches, found by following import statements, and of the locked requirements of its image.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import darkroom

PACKAGE = Path(darkroom.__file__).parent


def code_digest(component: Path, *more: Path) -> str:
    """The sha256 of everything in `darkroom` that the component's source can reach, and of the files in `more`.

    Data files beside a reached module count too: an expectation suite is code in all but syntax.
    """
    modules = reachable(component)
    beside = {file for module in modules for file in module.parent.iterdir() if file.is_file()}
    data = {file for file in beside if file.suffix not in (".py", ".md")}
    digest = hashlib.sha256()
    for file in sorted(modules | data) + sorted(more):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def reachable(source: Path) -> set[Path]:
    """The files of all `darkroom` modules that `source` imports, directly or through others, anywhere in its code."""
    found: set[Path] = set()
    waiting = list(_imports(source))
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(_imports(module))
    return found


@cache
def _imports(source: Path) -> tuple[Path, ...]:
    tree = ast.parse(source.read_text(encoding="utf-8"), filename=str(source))
    return tuple(file for node in ast.walk(tree) for name in _names(node) for file in _files(name))


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        # `from darkroom import tracking` names a module, `from darkroom.errors import DataError` does not.
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str) -> Iterator[Path]:
    """The module's file and the `__init__` of every package above it; nothing where no such module exists."""
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return
    for depth in range(1, len(parts) + 1):
        path = PACKAGE.joinpath(*parts[1:depth])
        for file in (path.with_suffix(".py") if depth > 1 else path, path / "__init__.py"):
            if file.is_file():
                yield file
