"""infra/install, as far as it goes without a cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.check.manifests import HERE


def install(*arguments: str, kubeconfig: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(HERE / "install"), *arguments],
        env={**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: infra/install kind|production REPOSITORY TAG [--kubeflow]"),
        (["kind", "darkroom"], "usage:"),
        (["kind", "darkroom", "1f0c2ab", "--force"], "usage:"),
        (["staging", "darkroom", "1f0c2ab"], "the overlay must be kind or production, got 'staging'"),
        (
            ["kind", "Darkroom/", "1f0c2ab"],
            "the repository must be a name such as registry.example.org/team, got 'Darkroom/'",
        ),
        (["kind", "darkroom", "latest"], "the tag must be a git commit and never 'latest', got 'latest'"),
        (["kind", "darkroom", ""], "the tag must be a git commit and never 'latest', got ''"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = install(*arguments, kubeconfig=tmp_path / "none")

    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_cluster_that_does_not_answer_ends_the_script_at_once(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: a}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
    )

    result = install("kind", "darkroom", "1f0c2ab", kubeconfig=kubeconfig)

    assert result.returncode != 0
    assert "127.0.0.1:9" in result.stderr
    assert "created" not in result.stdout
