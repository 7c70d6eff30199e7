"""MLflow: where every model is tracked, registered and reviewed.

Belongs here: talking to MLflow's tracking store and registry. Does not: training, gates and the history of the
champion (they are in octopus/models and the warehouse).

MLflow's store is the database `mlflow`, spoken to directly, so that a run needs no MLflow server; `octopus up` serves
the same store.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octopus.core.types import FloatArray
from resources.warehouse.connection import sqlalchemy_url

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "octopus"
CHAMPION = "champion"
CHALLENGER = "challenger"
_FINGERPRINT = "octopus.fingerprint"
_REQUIREMENTS = ("numpy", "pandas", "pydantic")
"""Said explicitly: letting MLflow infer them imports the model in a fresh process and takes seconds."""


@dataclass(frozen=True)
class TrainedModel:
    """What one training run leaves in MLflow.

    Attributes:
        name: registered model name. fingerprint: of data and settings; the same fingerprint is never trained twice.
        parameters, metrics: MLflow's params and metrics. fold_metrics: metric → value for each fold, in order.
        estimator: bytes of the model fitted on all labels known. folds: bytes of each walk-forward fold's model.
        pictures: file name → PNG. documents: file name → text (model card, gate table).
        example: a few rows, column → values. predicted: what the model says of them.
        requirements: packages that serving needs beside `_REQUIREMENTS`.
        passed: whether every gate passed; reasons: one line for each gate.
    """

    name: str
    fingerprint: str
    parameters: Mapping[str, object]
    metrics: Mapping[str, float]
    fold_metrics: Mapping[str, Sequence[float]]
    estimator: bytes
    folds: Sequence[bytes]
    pictures: Mapping[str, bytes]
    documents: Mapping[str, str]
    example: Mapping[str, NDArray[Any]]
    predicted: FloatArray
    requirements: Sequence[str]
    passed: bool
    reasons: Sequence[str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registered:
    """A registered version and the MLflow run that made it."""

    name: str
    version: int
    run_id: str
    artifact_uri: str


class ModelRegistry:
    """MLflow's tracking store and registry.

    Args:
        url: libpq URL of the database `mlflow`. folder: where artifacts go.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder

    @property
    def tracking_uri(self) -> str:
        """SQLAlchemy URL with the driver named."""
        return sqlalchemy_url(self._url)

    @property
    def artifact_root(self) -> str:
        """Folder of artifacts: MLflow's own default is the working directory."""
        return (self._folder / "artifacts").as_uri()

    @cached_property
    def _client(self) -> MlflowClient:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        import mlflow

        for noisy in ("mlflow.store.db.utils", "mlflow.pyfunc", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.set_registry_uri(self.tracking_uri)
        return mlflow.MlflowClient()

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=self.artifact_root))

    def prepare(self) -> None:
        """Create MLflow's tables and the experiment, so that its page has something to show."""
        self._experiment()

    def find(self, name: str, fingerprint: str) -> Registered | None:
        """The version of ``name`` that was trained from exactly this fingerprint, if there is one."""
        versions = self._client.search_model_versions(f"name = '{name}' and tags.`{_FINGERPRINT}` = '{fingerprint}'")
        if not versions:
            return None
        newest = max(versions, key=lambda version: int(version.version))
        return self._registered(newest)

    def log(self, model: TrainedModel) -> Registered:
        """Track one training run and register its model; a model that passed its gates becomes the challenger."""
        import mlflow
        import pandas as pd
        from mlflow.models import infer_signature

        client = self._client
        example = pd.DataFrame(model.example)
        with (
            tempfile.TemporaryDirectory() as scratch,
            mlflow.start_run(experiment_id=self._experiment(), run_name=model.name, tags=dict(model.tags)) as run,
        ):
            mlflow.log_params(dict(model.parameters))
            mlflow.log_metrics(_finite(model.metrics))
            for metric, values in model.fold_metrics.items():
                for step, value in enumerate(values):
                    if np.isfinite(value):
                        mlflow.log_metric(metric, float(value), step=step)
            folder = Path(scratch)
            for name, png in model.pictures.items():
                _write(folder / "artifacts" / name, png)
            for name, text in model.documents.items():
                _write(folder / "artifacts" / name, text.encode())
            for number, content in enumerate(model.folds):
                _write(folder / "artifacts" / "folds" / f"{number:03d}.bin", content)
            _write(folder / "artifacts" / "estimator.bin", model.estimator)
            mlflow.log_artifacts(str(folder / "artifacts"))
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("mlflow_model.py")),
                artifacts={"estimator": str(folder / "artifacts" / "estimator.bin")},
                pip_requirements=[*_REQUIREMENTS, *model.requirements],
                signature=infer_signature(example, pd.Series(model.predicted)),
                input_example=None if len(example) == 0 else example,
            )
        if not client.search_registered_models(f"name = '{model.name}'"):
            client.create_registered_model(model.name)
        version = client.create_model_version(
            model.name,
            source=logged.model_uri,
            run_id=run.info.run_id,
            tags={_FINGERPRINT: model.fingerprint, "gates": "passed" if model.passed else "failed", **model.tags},
            description="\n".join(model.reasons),
        )
        if model.passed:
            client.set_registered_model_alias(model.name, CHALLENGER, version.version)
        return self._registered(version)

    def log_report(
        self,
        name: str,
        fingerprint: str,
        metrics: Mapping[str, float],
        pictures: Mapping[str, bytes],
        documents: Mapping[str, str],
    ) -> None:
        """Track a report (a backtest) with its artifacts; once for a fingerprint."""
        import mlflow

        known = f"tags.`{_FINGERPRINT}` = '{fingerprint}'"
        if self._client.search_runs([self._experiment()], known, max_results=1):
            return
        with (
            tempfile.TemporaryDirectory() as scratch,
            mlflow.start_run(experiment_id=self._experiment(), run_name=name, tags={_FINGERPRINT: fingerprint}),
        ):
            mlflow.log_metrics(_finite(metrics))
            for file, png in pictures.items():
                _write(Path(scratch) / file, png)
            for file, text in documents.items():
                _write(Path(scratch) / file, text.encode())
            mlflow.log_artifacts(scratch)

    def alias(self, name: str, alias: str = CHAMPION) -> int | None:
        """Version that ``alias`` points at; None without one."""
        found = self._client.search_registered_models(f"name = '{name}'")
        version = found[0].aliases.get(alias) if found else None
        return None if version is None else int(version)

    def appoint(self, name: str, version: int, alias: str = CHAMPION) -> None:
        """Move ``alias`` to ``version``."""
        self._client.set_registered_model_alias(name, alias, str(version))

    def estimator(self, name: str, version: int) -> bytes:
        """Bytes of a registered version's estimator."""
        registered = self._registered(self._client.get_model_version(name, str(version)))
        return self.artifact(registered.artifact_uri, "estimator.bin")

    def artifact(self, artifact_uri: str, path: str) -> bytes:
        """One artifact file of a run."""
        import mlflow

        with tempfile.TemporaryDirectory() as scratch:
            local = mlflow.artifacts.download_artifacts(artifact_uri=f"{artifact_uri}/{path}", dst_path=scratch)
            return Path(local).read_bytes()

    def _registered(self, version: Any) -> Registered:
        run = self._client.get_run(version.run_id)
        return Registered(version.name, int(version.version), version.run_id, run.info.artifact_uri)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
