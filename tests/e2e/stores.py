"""What is read from the object store and from MLflow, as plain values for the checks."""

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from darkroom.errors import ClusterError


class Artifacts:
    """The bucket in which KFP keeps artifacts."""

    def __init__(self, address: str, bucket: str, secret: Mapping[str, str]) -> None:
        import boto3

        self._bucket = bucket
        self._client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=_plain(secret["access-key"]),
            aws_secret_access_key=_plain(secret["secret-key"]),
            region_name="us-east-1",
        )

    def keys(self) -> list[str]:
        """The keys of all objects."""
        with _explained("the object store"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
            return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def read_json(self, key: str) -> dict[str, Any]:
        """An object that holds JSON."""
        with _explained(key):
            content: dict[str, Any] = json.loads(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        return content


class Tracking:
    """MLflow, with the account that steps use."""

    def __init__(self, address: str, secret: Mapping[str, str]) -> None:
        os.environ["MLFLOW_TRACKING_USERNAME"] = _plain(secret["username"])
        os.environ["MLFLOW_TRACKING_PASSWORD"] = _plain(secret["password"])
        import mlflow

        self._client = mlflow.MlflowClient(address, registry_uri=address)

    def runs(self, ids: Iterable[str]) -> dict[str, dict[str, str]]:
        """Status and parent of those runs that exist, and of their parents."""
        import mlflow

        found: dict[str, dict[str, str]] = {}
        left = [id_ for id_ in ids if id_]
        while left:
            id_ = left.pop()
            try:
                run = self._client.get_run(id_)
            except mlflow.MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise ClusterError(f"MLflow: {error}") from None
                continue
            parent = run.data.tags.get("mlflow.parentRunId", "")
            found[id_] = {"status": run.info.status, "parent": parent}
            left += [parent] if parent and parent not in found else []
        return found

    def versions(self, names: Iterable[str]) -> dict[str, list[int]]:
        """The versions of registered models, by name; none for a model that is not there."""
        with _explained("MLflow"):
            return {
                name: sorted(int(each.version) for each in self._client.search_model_versions(f"name = '{name}'"))
                for name in names
            }

    def delete(self, models: Iterable[str], data_md5: str) -> None:
        """Delete models, and all runs on one version of the data with their parents."""
        with _explained("MLflow"):
            for name in models:
                if self.versions([name])[name]:
                    self._client.delete_registered_model(name)
            experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
            runs = self._client.search_runs(experiments, f"tags.`darkroom.data_md5` = '{data_md5}'", max_results=1000)
            for id_ in self.runs(run.info.run_id for run in runs):
                self._client.delete_run(id_)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow import MlflowException

    try:
        yield
    except (BotoCoreError, ClientError, MlflowException) as error:
        raise ClusterError(f"{what}: {error}") from None


def _plain(text: str) -> str:
    return base64.b64decode(text).decode()
