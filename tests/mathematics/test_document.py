"""docs/mathematics.md names code and tests; what it names must be there, and its tables must be true."""

import ast
import re
from functools import reduce
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from keras import layers

from darkroom.cnn.config import CnnConfig
from darkroom.cnn.model import PixelStatistics, build_network

DOCUMENT = Path(__file__).parents[2] / "docs" / "mathematics.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
LINKS = re.findall(r"\[(`?)([^\]`]+)`?\]\(([^)\s]+)\)", TEXT)
NAMED = sorted({(name, target) for quoted, name, target in LINKS if quoted})
LIBRARY_NAMES = sorted(set(re.findall(r"`((?:keras|tf)\.[\w.]+)`", TEXT)))


def defined_names(path: Path) -> set[str]:
    """Functions, classes and constants at the top of a Python file."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_there_are_links_to_check():
    assert len(NAMED) > 50
    assert len(LIBRARY_NAMES) > 8


@pytest.mark.parametrize("target", sorted({target for _, _, target in LINKS}))
def test_every_file_exists(target):
    assert (DOCUMENT.parent / target).is_file()


@pytest.mark.parametrize(("name", "target"), NAMED)
def test_every_name_is_defined_in_its_file(name, target):
    assert name in defined_names(DOCUMENT.parent / target)


@pytest.mark.parametrize("name", LIBRARY_NAMES)
def test_every_name_of_keras_and_tensorflow_exists(name):
    library, _, path = name.partition(".")
    assert reduce(getattr, path.split("."), {"keras": keras, "tf": tf}[library]) is not None


def test_every_test_of_a_formula_is_named():
    named = {name for name, _ in NAMED}
    for path in Path(__file__).parent.glob("test_*.py"):
        if path != Path(__file__):
            tests = {name for name in defined_names(path) if name.startswith("test_")}
            assert tests <= named, f"{path.name}: not in the document: {sorted(tests - named)}"


@pytest.mark.parametrize("architecture", ["mnist_cnn", "darkroom_cnn"])
def test_the_tables_of_layers_are_those_of_the_networks(architecture):
    model = build_network(CnnConfig(architecture=architecture), (28, 28, 1), 10, PixelStatistics((0.0,), (1.0,))).model
    shown = (layers.Conv2D, layers.MaxPooling2D, layers.Flatten, layers.Dense)
    rows = [describe(layer) for layer in model.layers if isinstance(layer, shown)]
    table = TEXT.partition(f"\n`{architecture}`")[2].partition("| --- |")[2]
    written = re.findall(r"^\| (\w.*) \| (.+) \| (.+) \|$", table.partition("\n\n")[0], re.MULTILINE)
    assert written == rows


def describe(layer: keras.Layer) -> tuple[str, str, str]:
    kind = type(layer).__name__
    if isinstance(layer, layers.Conv2D):
        stride = f", stride {layer.strides[0]}" if layer.strides[0] > 1 else ""
        kind += f" {layer.kernel_size[0]} x {layer.kernel_size[1]}{stride}"
    elif isinstance(layer, layers.MaxPooling2D):
        kind += f" {layer.pool_size[0]} x {layer.pool_size[1]}"
    if getattr(layer, "padding", "valid") == "same":
        kind += ", same"
    output = " x ".join(f"{side:,}" for side in layer.output.shape[1:])
    return kind, output, f"{layer.count_params():,}"
