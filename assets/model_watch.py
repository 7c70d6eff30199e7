"""M5 ML Models, watched: drift of features and predictions, and the challenger in the champion's shadow.

Belongs here: what is measured daily of models that speak. Does not: training and review (assets/models.py), the
measures (octopus/models/drift.py, shadow.py).
"""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import numpy as np
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.core.panel import Panel
from octopus.models import drift as drifts
from octopus.models.estimators import estimator_from_bytes
from octopus.models.pictures import drift_picture, shadow_picture
from octopus.models.shadow import Shadow, compare
from octopus.models.training import training_session, unlabelled
from resources.registry import CHALLENGER, ModelRegistry
from resources.settings import Settings
from resources.warehouse.store import Warehouse

GROUP = "models"
OWNERS = ["team:models"]
_NO_DRIFT = "no_drift"
_SHADOW_SESSIONS = 252
_NOTHING = pl.DataFrame(schema={"session": pl.Date})


@dg.asset(
    key=keys.DRIFT, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.FEATURES, keys.PREDICTIONS], partitions_def=partitions.SESSIONS,
    check_specs=[
        dg.AssetCheckSpec(
            _NO_DRIFT, asset=keys.DRIFT,
            description="Features and predictions of the last sessions look like those of the training window.",
        )
    ],
)  # fmt: skip
def drift(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    registry: dg.ResourceParam[ModelRegistry],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """How far each feature and the predictions are from the training window, as known at the session's decision."""
    session, config = partitions.session_of(context), settings.strategies.models
    panel = inputs.panel(settings, warehouse, session)
    ready = inputs.prepared(panel, settings.decision)
    train_to = training_session(session, config.retrain)
    stop = inputs.sessions_until(panel, train_to)
    usable = panel.member & ~np.isnan(panel.close)
    if stop < 2 * config.drift.window_sessions:
        yield from _unmeasured(warehouse, session, f"{stop} sessions of training are too few to compare with")
        return
    cube = ready.features
    of_features = drifts.measure(cube.names, cube.values, usable, stop, config.drift)
    # What spoke then, each session's own model: out of sample on every session, as the latest predictions are.
    spoken = inputs.past_predictions(settings, warehouse, registry, ready)
    speaker = inputs.speaker(settings, warehouse, session)
    of_predictions = None
    if spoken is not None and speaker is not None:
        said = spoken[:, :, None]
        of_predictions = drifts.measure((speaker.label,), said, usable & ~np.isnan(spoken), stop, config.drift)
    frame = pl.concat([_frame("feature", of_features), *([_frame("prediction", p)] if (p := of_predictions) else [])])
    changed = warehouse.replace("models.drift", {"session": session}, frame.with_columns(session=pl.lit(session)))
    png = drift_picture(of_features, of_predictions, panel.sessions, train_to)
    yield dg.MaterializeResult(
        metadata={
            "rows": len(frame), "changed": changed, "train_to": str(train_to), "share_drifted": of_features.share,
            "picture": reporting.picture(png, "drift"),
            "table": reporting.table(frame.sort(pl.col("psi") / pl.col("psi_usual"), descending=True, nulls_last=True)),
        }
    )  # fmt: skip
    bold = of_predictions is not None and bool(of_predictions.drifted.any())
    names = [name for name, far in zip(of_features.names, of_features.drifted, strict=True) if far]
    yield dg.AssetCheckResult(
        check_name=_NO_DRIFT, asset_key=keys.DRIFT, severity=dg.AssetCheckSeverity.WARN,
        passed=of_features.share <= config.drift.features_max and not bold,
        metadata={
            "features_drifted": ", ".join(names) or "none", "share_drifted": of_features.share,
            "share_allowed": config.drift.features_max,
            "predictions": "none to measure" if of_predictions is None else "drifted" if bold else "as in training",
        },
    )  # fmt: skip


def _unmeasured(
    warehouse: Warehouse, session: date, reason: str
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Nothing to compare with: nothing is stored, and the check says that it saw nothing."""
    warehouse.replace("models.drift", {"session": session}, _NOTHING)
    yield dg.MaterializeResult(metadata={"rows": 0, "reason": reason})
    yield dg.AssetCheckResult(
        check_name=_NO_DRIFT, asset_key=keys.DRIFT, severity=dg.AssetCheckSeverity.WARN, passed=False,
        metadata={"reason": f"not measured: {reason}"},
    )  # fmt: skip


def _frame(kind: str, of: drifts.Drift) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "kind": [kind] * len(of.names), "name": of.names, "psi": of.psi, "psi_usual": of.usual, "ks": of.ks,
            "sessions": [of.sessions] * len(of.names), "drifted": of.drifted,
        }
    ).with_columns(pl.col("psi", "psi_usual", "ks").fill_nan(None))  # fmt: skip


@dg.asset(
    key=keys.SHADOW, group_name=GROUP, owners=OWNERS, kinds={"mlflow", "postgres"},
    deps=[keys.CHAMPION_HISTORY, keys.PREDICTIONS], partitions_def=partitions.SESSIONS,
)  # fmt: skip
def shadow(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    registry: dg.ResourceParam[ModelRegistry],
) -> dg.MaterializeResult[None]:
    """The challenger beside the champion on sessions that neither learnt from: do they agree, who would earn more?"""
    session = partitions.session_of(context)
    name = settings.strategies.models.registered_name
    champion, challenger = _versions(settings, warehouse, registry, session)
    if champion is None or challenger is None:
        warehouse.replace("models.shadow", {"session": session}, _NOTHING)
        missing = "champion" if champion is None else "challenger beside it"
        return dg.MaterializeResult(metadata={"rows": 0, "reason": f"there is no {missing}: nothing to compare"})
    ready = inputs.prepared(inputs.panel(settings, warehouse, session), settings.decision)
    panel, cube = ready.panel, ready.features
    start = _unlearnt(settings, warehouse, panel, (champion, challenger))
    rows = np.arange(start, len(panel.sessions))
    on = unlabelled(panel.rows(start, len(panel.sessions)), cube.names, cube.values[start:])
    models = [estimator_from_bytes(registry.estimator(name, version)) for version in (champion, challenger)]
    found = compare(on, *(inputs.opinions(model, ready, rows) for model in models))
    names = f"{name}:{champion}", f"{name}:{challenger}"
    frame = _row(found, names).with_columns(session=pl.lit(session))
    changed = warehouse.replace("models.shadow", {"session": session}, frame)
    png = shadow_picture(found, f"champion {names[0]}", f"challenger {names[1]}")
    return dg.MaterializeResult(
        metadata={
            "rows": 1, "changed": changed, "champion": names[0], "challenger": names[1],
            "picture": reporting.picture(png, "shadow comparison"), "table": reporting.table(frame),
        }
    )  # fmt: skip


def _versions(
    settings: Settings, warehouse: Warehouse, registry: ModelRegistry, session: date
) -> tuple[int | None, int | None]:
    """Champion of the session, and the challenger if it is another version that had not seen the session."""
    speaker = inputs.speaker(settings, warehouse, session)
    champion = None if speaker is None else speaker.version
    challenger = registry.alias(settings.strategies.models.registered_name, CHALLENGER)
    if challenger in (None, champion) or _trained_to(settings, warehouse, challenger) >= session:
        return champion, None
    return champion, challenger


def _trained_to(settings: Settings, warehouse: Warehouse, version: int | None) -> date:
    """Last session that a version knows of; the end of time where no review says so: then nothing is unlearnt."""
    name = settings.strategies.models.registered_name
    found = warehouse.scalar(
        "select max(as_of) from models.reviews where version = %s and coalesce(registered_name, %s) = %s",
        [version, name, name],
    )
    return found if isinstance(found, date) else date.max


def _unlearnt(settings: Settings, warehouse: Warehouse, panel: Panel, versions: tuple[int, int]) -> int:
    """First row that no version has learnt from, of at most the last `_SHADOW_SESSIONS`."""
    last = max(_trained_to(settings, warehouse, version) for version in versions)
    start = inputs.sessions_until(panel, last)
    return max(start, len(panel.sessions) - _SHADOW_SESSIONS)


def _row(found: Shadow, names: tuple[str, str]) -> pl.DataFrame:
    champion, challenger = found.spreads
    return pl.DataFrame(
        {
            "champion": [names[0]], "challenger": [names[1]], "sessions": [len(found.sessions)],
            "rank_correlation": [found.agreement], "today_rank_correlation": [float(found.rank_correlation[-1])],
            "champion_spread": [champion], "challenger_spread": [challenger], "spread_t": [found.difference_t],
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))  # fmt: skip


ASSETS = (drift, shadow)
