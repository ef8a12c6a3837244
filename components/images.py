"""The images that components run in: one per dependency set, targets of one Dockerfile.

A name contains `python` because the local runner warns about any other. The tag is the git commit, which the pipeline
sets when it is compiled; what stands here is the name that a component carries until then.
"""

from typing import Literal

Target = Literal["data", "train", "train-gpu", "registry"]

DEFAULT_REPOSITORY = "darkroom"
LOCAL_TAG = "local"


def image(target: Target, repository: str = DEFAULT_REPOSITORY, tag: str = LOCAL_TAG) -> str:
    """The full name of one image, such as `registry.example.org/team/python-train:1f0c2ab`."""
    return f"{repository}/python-{target}:{tag}"
