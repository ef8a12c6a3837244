"""The model registry: register a version, let the gate decide, move the champion, go back.

Unlike tracking, registration is not best effort: what cannot be done whole is undone and raises `RegistryError`.

A version is created last, when all its files are uploaded, and carries as tags what was decided and why. The same work
is registered once, even by two processes at the same moment: MLflow gives version numbers in the order in which
versions come into being, and the lowest one stays.

The alias `challenger` is the newest version that passed its own thresholds, `champion` the one that is served. MLflow
moves an alias without a history, and the last writer wins. So a promotion here reads the champion, decides, reads the
champion again, writes the decision to the journal and only then moves the alias; what remains open is the moment
between the second reading and the move. The journal is a set of tags of the registered model, one per event, never
rewritten, with keys that sort by time.
"""

from darkroom.registry.package import NETWORK_FILES, Kind, save_pyfunc, serving_requirements
from darkroom.registry.promotion import Outcome, rollback
from darkroom.registry.registration import RegisterConfig, Registration, register
from darkroom.registry.store import RegisteredModel, Store, list_models

__all__ = [
    "NETWORK_FILES",
    "Kind",
    "Outcome",
    "RegisterConfig",
    "RegisteredModel",
    "Registration",
    "Store",
    "list_models",
    "register",
    "rollback",
    "save_pyfunc",
    "serving_requirements",
]
