"""Step 6: decide about a model and register it."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.images import image


@dsl.component(base_image=image("registry"), install_kfp_package=False)
def register_model(
    kind: str,
    model: Input[Model],
    evaluation: Input[Artifact],
    splits: Input[Dataset],
    data_md5: str,
    seed: int,
    scheduled_at: str,
    gate: dict,
    options: dict,
    decision: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Register a model version in MLflow and let the gate decide about its aliases.

    A gate that says no is a result, not a failure: the version is kept with the reasons and gets no alias. The same
    data, parameters and code on the same tick of a schedule make one version, however often the step runs.

    Args:
        kind: cnn or gan.
        model: The model's folder.
        evaluation: The model's evaluation on the test split.
        splits: The preprocessed splits, on which a champion of other data is measured again.
        data_md5: The dataset's DVC md5.
        seed: Seed of the run.
        scheduled_at: The tick of the schedule that started the run, as KFP states it; empty on a laptop.
        gate: Fields of GateConfig that differ from their defaults.
        options: Fields of RegisterConfig that differ from their defaults.
        decision: JSON file with name, version, aliases, decision and reasons.
        metrics: The model's version, and 1 or 0 for promoted.
    """
    from pathlib import Path

    from darkroom.files import write_json
    from darkroom.steps import provenance, step

    with step(f"register_model_{kind}", metrics) as running:
        from darkroom.gate import GateConfig
        from darkroom.registry import RegisterConfig, register

        config = running.configure(RegisterConfig, data_md5, options)
        running.log_dataset(splits.path, data_md5)
        result = register(
            kind,  # type: ignore[arg-type]  # KFP has no literal types
            Path(model.path),
            Path(evaluation.path),
            Path(splits.path),
            GateConfig.parse(gate, where="gate"),
            config,
            run=running.run,
            provenance={"data_md5": data_md5, "seed": str(seed), "scheduled_at": scheduled_at, **provenance()},
        )
        write_json(Path(decision.path), result.as_dict())
        running.log_files(decision.path, "decision")
        running.log_metrics({"version": result.version, "promoted": float(result.decision == "promoted")})
