"""Moving the champion: forward when the gate says so, back when a person does."""

from typing import Literal

from darkroom import tracking
from darkroom.errors import RegistryError
from darkroom.gate import GateConfig, check
from darkroom.registry.candidate import Candidate
from darkroom.registry.comparison import compare_with_champion
from darkroom.registry.store import CHALLENGER, CHAMPION, RegisteredModel, Store
from darkroom.registry.transaction import Undo, all_or_nothing

Outcome = Literal["promoted", "challenger", "rejected"]

PROMOTION_ATTEMPTS = 3


def decide_and_promote(
    store: Store, candidate: Candidate, version: int, gate: GateConfig, undo: list[Undo]
) -> tuple[Outcome, list[str]]:
    """Ask the gate, and make the version champion if it says so and no one else changed the champion meanwhile.

    Raises:
        RegistryError: the champion kept changing.
    """
    for _ in range(PROMOTION_ATTEMPTS):
        state = store.read()
        outcome, reasons = _decide(store, state, candidate, version, gate)
        if outcome != "promoted" or state.champion == version:
            return outcome, reasons
        if store.read().champion == state.champion:
            _move_champion(store, "promoted", version, state.champion, reasons, undo)
            return outcome, reasons
    raise RegistryError(
        f"{store.name}: the champion changed {PROMOTION_ATTEMPTS} times while version {version} was compared with it"
    )


def _decide(
    store: Store, state: RegisteredModel, candidate: Candidate, version: int, gate: GateConfig
) -> tuple[Outcome, list[str]]:
    if state.champion == version:
        passed, reasons = check(candidate.kind, candidate.metrics, gate)
        if passed:
            return "promoted", [*reasons, f"version {version} is the champion already"]
        return "rejected", [*reasons, f"version {version} stays champion until another one replaces it"]
    decision = compare_with_champion(store, state.champion, candidate, gate)
    if decision.promote and state.was_champion(version) and not _was_interrupted(store, state, version):
        again = f"version {version} was champion before and was replaced; registering it again does not bring it back"
        return "challenger", [*decision.reasons, again]
    if decision.promote:
        return "promoted", decision.reasons
    return ("challenger" if decision.passed else "rejected"), decision.reasons


def _was_interrupted(store: Store, state: RegisteredModel, version: int) -> bool:
    """Whether the one who promoted a version died between journal and alias: the decision comes after both."""
    return state.champions[-1:] == [version] and store.tags(version).get("darkroom.decision") != "promoted"


def rollback(name: str, settings: tracking.TrackingSettings, reason: str) -> int:
    """Make the champion before the present one champion again, and write that to the journal. Returns its version.

    Called again, it goes one champion further back.

    Raises:
        RegistryError: there is no such model or no earlier champion, or MLflow failed.
    """
    store = Store(settings, name)
    with all_or_nothing(f"{name} at {settings.tracking_uri}: not rolled back") as undo:
        store.connect()
        state = store.read()
        if state.champion is None:
            raise RegistryError(f"{name}: has no champion to roll back from")
        earlier = [version for version in state.champions if version != state.champion]
        if not earlier:
            raise RegistryError(f"{name}: version {state.champion} is the first champion; there is none to go back to")
        _move_champion(store, "rolled_back", earlier[-1], state.champion, [reason], undo)
    return earlier[-1]


def _move_champion(
    store: Store, event: str, version: int, before: int | None, reasons: list[str], undo: list[Undo]
) -> None:
    """Write the journal, then move the alias; both are taken back when a later part of the transaction fails."""
    key = store.write_journal(event, version=version, champion_before=before, reasons=reasons)
    undo.append(lambda: store.write_journal("withdrawn", withdraws=key))
    store.set_alias(CHAMPION, version)
    undo.append(lambda: store.set_alias(CHAMPION, before))


def record_decision(store: Store, version: int, outcome: Outcome, reasons: list[str], undo: list[Undo]) -> None:
    """Store the outcome with the version, keep `challenger` on the newest version that passed, and journal changes."""
    previous = store.tags(version).get("darkroom.decision")
    state = store.read()
    challenger = state.aliases.get(CHALLENGER)
    if outcome == "rejected":
        if challenger == version:
            store.set_alias(CHALLENGER, None)
    elif challenger is None or challenger < version:
        store.set_alias(CHALLENGER, version)
        undo.append(lambda: store.set_alias(CHALLENGER, challenger))
    store.set_tags(version, {"darkroom.decision": outcome, "darkroom.reasons": "\n".join(reasons)})
    if outcome not in ("promoted", previous):
        store.write_journal(outcome, version=version, champion_before=state.champion, reasons=reasons)
