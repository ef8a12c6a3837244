"""What each step asks a cluster for, as data: profiles, read from YAML files.

A profile has `defaults`, which hold for every step, and `steps`, which name what differs: a field given there replaces
the default's as a whole. Bundled profiles lie in `pipelines/profiles/`; a file of your own is named by its path, and
may extend a bundled one.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from darkroom.config import StepConfig
from darkroom.errors import ConfigError
from pipelines.yaml_file import read_yaml

PROFILES = Path(__file__).parent / "profiles"

Step = Literal[
    "fetch_data",
    "validate_data",
    "preprocess",
    "train_cnn",
    "train_gan",
    "evaluate_cnn",
    "evaluate_gan",
    "register_model",
]

_QUANTITY = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>[num]|k|[MGTPE]|[KMGTPE]i)?")
_UNITS = {unit: Decimal(1000) ** power for power, unit in enumerate(("n", "u", "m", "", *"kMGTPE"), start=-3)}
_UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}

# What a variable is called that holds a secret, and an address with a password in it.
_SECRET_NAME = re.compile("(PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIALS?|(SECRET|ACCESS|API|PRIVATE)_KEY)$", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def parse_quantity(text: str) -> Decimal:
    """The number that Kubernetes reads in `500m`, `1.5` or `4Gi`.

    Raises:
        ValueError: it is none.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a Kubernetes quantity such as 500m, 2 or 4Gi, got {text!r}")
    return Decimal(match["number"]) * _UNITS[match["unit"] or ""]


def step_of(task: str) -> Step:
    """The step of a task by KFP's name for it, which has dashes for underscores and a number where it is repeated."""
    return cast(Step, re.sub(r"-[0-9]+$", "", task).replace("-", "_"))


def _quantity(pattern: str, rule: str) -> Any:
    def check(value: Any) -> Any:
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if not isinstance(text, str) or re.fullmatch(pattern, text) is None:
            raise PydanticCustomError("quantity", rule)
        return text

    return BeforeValidator(check)


# Only what both KFP's SDK and Kubernetes take: the SDK refuses 1.5Gi, Kubernetes refuses 4K and 0.0001 of a CPU.
Cpu = Annotated[str, _quantity(r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?", "must be CPUs such as 500m, 2 or 1.5")]
Memory = Annotated[str, _quantity(r"[1-9][0-9]*([MGTPE]|[KMGTPE]i)", "must be memory such as 512Mi or 4Gi")]
Quantity = Annotated[str, _quantity(_QUANTITY.pattern, "must be a Kubernetes quantity such as 500m, 2 or 4Gi")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class CpuBounds(StepConfig):
    """CPUs that a step gets for certain, and may use where they are free."""

    request: Cpu
    limit: Cpu


class MemoryBounds(StepConfig):
    """Memory that a step gets for certain, and above which it is ended."""

    request: Memory
    limit: Memory


class Accelerator(StepConfig):
    """An extended resource that a step asks for, such as `nvidia.com/gpu` or a MIG slice."""

    resource: str = Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    count: int = Field(1, ge=1)


class Toleration(StepConfig):
    """A taint that keeps other pods from a node and not this one."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute", ""] = ""

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError("the operator Exists, which is the default, takes no value; write operator: Equal")
        return self


class NodeRequirement(StepConfig):
    """A condition on the labels of the node that a step runs on."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = "In"
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if self.operator in ("In", "NotIn") and not self.values:
            raise ValueError(f"the operator {self.operator} takes one value or more")
        if self.operator in ("Exists", "DoesNotExist") and self.values:
            raise ValueError(f"the operator {self.operator} takes no values")
        if self.operator in ("Gt", "Lt") and not (len(self.values) == 1 and self.values[0].isdigit()):
            raise ValueError(f"the operator {self.operator} takes one whole number, written in quotes")
        return self


class Retries(StepConfig):
    """How often a step that its cluster lost runs again: first after `backoff_seconds`, then `factor` times later."""

    count: int = Field(2, ge=0)
    backoff_seconds: int = Field(30, ge=0)
    # The backend reads it as an integer, though the SDK takes 1.5.
    factor: int = Field(2, ge=1)


class SecretVariables(StepConfig):
    """Environment variables that a step gets from a secret of its namespace."""

    name: Name
    keys: Mapping[str, str] = Field(min_length=1, description="key in the secret: name of the variable")
    optional: bool = False


class PodConfig(StepConfig):
    """What one step's pod asks for."""

    cpu: CpuBounds = CpuBounds(request="1", limit="2")
    memory: MemoryBounds = MemoryBounds(request="2Gi", limit="4Gi")
    accelerator: Accelerator | None = None
    shared_memory: Memory | None = Field(None, description="size of /dev/shm; counts against the memory limit")
    timeout_seconds: int = Field(3600, ge=60, description="of one attempt, from the moment it runs")
    retries: Retries = Retries()
    node_selector: Mapping[str, LabelValue] = {}
    node_affinity: tuple[NodeRequirement, ...] = Field((), description="a node must meet all of them")
    tolerations: tuple[Toleration, ...] = ()
    labels: Mapping[str, LabelValue] = Field({}, description="of the pod, such as kueue.x-k8s.io/queue-name")
    environment: Mapping[str, str] = {}
    secrets: tuple[SecretVariables, ...] = ()
    checkpoints: Name | None = Field(None, description="volume claim on which interrupted training is kept")
    user: int = Field(1000, ge=1, description="as in the images; root is refused")
    group: int = Field(1000, ge=1)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[Name, ...] = ()
    node: Mapping[str, Quantity] = Field({}, description="allocatable of the intended kind of node, for the preflight")


class Profile(StepConfig):
    """What every step asks for on one kind of cluster."""

    extends: str | None = Field(None, description="a bundled profile, of which this one says only what differs")
    defaults: PodConfig = PodConfig()
    steps: Mapping[Step, PodConfig] = {}

    def pod(self, step: Step) -> PodConfig:
        """One step's settings: the defaults, and in their place what the profile gives for the step."""
        return _overlay(self.defaults, self.steps.get(step, PodConfig()))


def bundled_profiles() -> list[str]:
    """The names of the profiles that come with Darkroom."""
    return sorted(file.stem for file in PROFILES.glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """Read a bundled profile by its name, such as `cpu`, or any profile by the path of its file.

    Raises:
        ConfigError: names the file, the field, the rule and the value.
    """
    file = PROFILES / f"{name}.yaml" if name in bundled_profiles() else Path(name)
    profile = _read(file)
    if profile.extends is None:
        return profile
    if profile.extends not in bundled_profiles():
        raise ConfigError(f"--profile {file}: extends: must be {_choice()}, got {profile.extends!r}")
    base = load_profile(profile.extends)
    steps = {
        step: _overlay(base.steps.get(step, PodConfig()), profile.steps.get(step, PodConfig()))
        for step in {**base.steps, **profile.steps}
    }
    return Profile(defaults=_overlay(base.defaults, profile.defaults), steps=steps)


def _overlay(base: PodConfig, own: PodConfig) -> PodConfig:
    """`base`, with the fields in their places that `own` gives."""
    return base.model_copy(update={field: getattr(own, field) for field in own.model_fields_set})


def _read(file: Path) -> Profile:
    if not file.exists():
        raise ConfigError(f"--profile {file}: must be {_choice()} or the path of a file; there is no such file")
    try:
        values = read_yaml(file)
    except ConfigError as error:
        raise ConfigError(f"--profile {error}") from None
    if not isinstance(values, Mapping):
        raise ConfigError(f"--profile {file}: must be a mapping of defaults and steps, got {values!r}")
    try:
        profile = Profile.parse(values)
    except ConfigError as error:
        raise ConfigError(f"--profile {file}:\n{error}") from None
    _refuse_plain_secrets(profile, file)
    return profile


def _choice() -> str:
    return f"one of the bundled profiles {', '.join(bundled_profiles())}"


def _refuse_plain_secrets(profile: Profile, file: Path) -> None:
    """An environment variable is written into the compiled package for all to read; its value is not repeated here."""
    sections = {"defaults": profile.defaults, **{f"steps.{step}": pod for step, pod in profile.steps.items()}}
    for where, pod in sections.items():
        for variable, value in pod.environment.items():
            if _SECRET_NAME.search(variable) or _SECRET_VALUE.search(value):
                raise ConfigError(
                    f"--profile {file}: {where}.environment.{variable}: must hold no secret, because it becomes part "
                    "of the compiled package; name a Kubernetes secret under `secrets`"
                )
