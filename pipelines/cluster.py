"""From a checkout to a package that a cluster can run."""

import hashlib
import re
import tempfile
from pathlib import Path

from kfp.compiler.compiler_utils import KubernetesManifestOptions

from darkroom.errors import ConfigError
from pipelines.config import RunConfig
from pipelines.pipeline import NAME, compile_pipeline
from pipelines.placement import ClusterPlacement
from pipelines.preflight import preflight


def compile_for_cluster(
    place: ClusterPlacement, config: RunConfig, data_md5: str, output: Path, namespace: str | None = None
) -> str | None:
    """Compile, check against the profile's nodes, and only then put the result in place.

    With a namespace the result is a `Pipeline` and a `PipelineVersion` resource in it, and their version's name is
    returned. A version cannot be changed once it is applied: its name holds a digest of the package beside the tag, so
    that other parameters make another version, and the same ones the same again.

    Raises:
        ConfigError: the namespace can be none, or the preflight's findings; `output` is left as it was.
    """
    if namespace is not None and re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace) is None:
        raise ConfigError(f"--namespace: must be of at most 63 small letters, digits and dashes, got {namespace!r}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".darkroom-", dir=output.parent) as scratch:
        package = Path(scratch) / "package.yaml"
        compile_pipeline(place, config, data_md5, package)
        preflight(package, profile=place.profile)
        version = None
        if namespace is not None:
            version = version_name(place.tag, package.read_bytes())
            manifest = KubernetesManifestOptions(
                pipeline_name=NAME,
                pipeline_version_name=version,
                namespace=namespace,
                include_pipeline_manifest=True,
            )
            compile_pipeline(place, config, data_md5, package, manifest)
        package.replace(output)
    return version


def version_name(tag: str, package: bytes) -> str:
    """A name that Kubernetes takes, such as `darkroom-1f0c2ab94d11-5e884898`."""
    commit = re.sub(r"[^a-z0-9]+", "-", tag.lower())[:12].strip("-")
    return f"{NAME}-{commit}-{hashlib.sha256(package).hexdigest()[:8]}"
