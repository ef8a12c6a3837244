"""What the commands have in common on the terminal."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

INTERRUPTED_EXIT = 130

Parameters = Annotated[
    Path | None, typer.Option("--params", metavar="FILE", help="Parameter file, such as pipelines/params/smoke.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override one parameter, such as cnn.epochs=3. Repeatable."),
]

out = Console()
err = Console(stderr=True)


def say(message: str) -> None:
    """Print one message, in rich's markup, on as many columns as it takes."""
    out.print(message, highlight=False, soft_wrap=True)
