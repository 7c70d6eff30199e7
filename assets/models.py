"""M5 ML Models: training sets, walk-forward training, review in MLflow, the champion's history and predictions.

Belongs here: the steps of training and review as assets. Does not: estimators and gates (octopus/models), MLflow
(resources/registry.py).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets import inputs, keys, partitions, reporting
from octopus.core.ids import canonical_json, fingerprint
from octopus.core.trials import MODELS, Trial
from octopus.core.types import FloatArray
from octopus.models import crossval, evaluation, gates, walkforward
from octopus.models.base import Estimator, Rows
from octopus.models.card import Subject, data_record, model_card
from octopus.models.estimators import estimator_from_bytes, make
from octopus.models.pictures import calibration_picture, fold_picture, importance_picture, paths_picture
from octopus.models.search import Chooser, Tried
from octopus.models.selection import silenced
from octopus.models.splits import walk_forward
from octopus.models.training import TrainingSet, training_session
from octopus.models.walkforward import WalkForward
from octopus.strategy.probe import look_ahead
from resources.clock import Clock
from resources.registry import CHAMPION, ModelRegistry, Registered, TrainedModel
from resources.settings import Settings
from resources.warehouse.fold_models import FoldModels
from resources.warehouse.store import Warehouse
from resources.warehouse.trials import TrialLedger

GROUP = "models"
OWNERS = ["team:models"]
_EXAMPLES = 5
_EVERY_GATE = "every_gate_passed"
_CHAMPION_PASSED = "champion_passed_its_gates"
_SURVIVORS = ("The sample's companies were chosen because they survived: every figure on it flatters.",)


@dg.asset(
    key=keys.TRAINING_SETS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.FEATURES, keys.QUALITY_FINDINGS], partitions_def=partitions.SESSIONS,
)  # fmt: skip
def training_sets(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], warehouse: dg.ResourceParam[Warehouse]
) -> dg.MaterializeResult[None]:
    """What the models are trained on: features and labels up to the last quarter's end, told apart by fingerprint."""
    session = partitions.session_of(context)
    training = inputs.training_set(settings, warehouse, session)
    sessions = training.panel.sessions
    frame = pl.DataFrame(
        {
            "fingerprint": [training.fingerprint],
            "as_of": [training_session(session, settings.strategies.models.retrain)],
            "rows": [training.labelled],
            "first_session": [sessions[0].item()],
            "last_session": [sessions[-1].item()],
            "horizon_sessions": [settings.strategies.models.horizon_sessions],
            "features": [json.dumps(training.names)],
            "created_at": [datetime.now(UTC)],
        }
    )
    added = warehouse.insert_new("models.training_sets", frame)
    excluded = int((training.panel.member & ~np.isnan(training.panel.close) & ~training.usable).sum())
    return dg.MaterializeResult(
        metadata={
            "fingerprint": training.fingerprint, "rows": training.labelled, "rows_excluded": excluded, "new": added,
            "first_session": str(sessions[0]), "last_session": str(sessions[-1]), "features": len(training.names),
        }
    )  # fmt: skip


class FoldRun(dg.Config):
    """Of a run over folds.

    Attributes:
        as_of: session whose training set is walked through, as an ISO date; none: the latest that is decided.
    """

    as_of: str | None = None


@dg.asset(
    key=keys.FOLD_MODELS, group_name=GROUP, owners=OWNERS, kinds={"xgboost", "postgres"},
    deps=[dg.AssetDep(keys.TRAINING_SETS, partition_mapping=dg.LastPartitionMapping())],
    partitions_def=partitions.FOLDS,
)  # fmt: skip
def fold_models(
    context: dg.AssetExecutionContext,
    config: FoldRun,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    clock: dg.ResourceParam[Clock],
) -> dg.MaterializeResult[None]:
    """Each model of one walk-forward fold: a backfill spreads the folds over many machines, and the review, which
    trains what is missing by itself, takes them from here."""
    number, models = int(context.partition_key), settings.strategies.models
    latest = settings.sessions.last_decided(clock.now())
    session = latest if config.as_of is None else date.fromisoformat(config.as_of)
    training = inputs.training_set(settings, warehouse, session)
    folds = walk_forward(len(training.panel.sessions), models)
    if number >= len(folds):
        return dg.MaterializeResult(metadata={"models": 0, "reason": f"the walk has only {len(folds)} folds"})
    ready = {name for name in models.estimators if number in _ready(warehouse, settings, training, name)}
    made = {
        name: walkforward.fit_fold(training, folds[number], chooser).to_bytes()
        for name, chooser in _choosers(warehouse, settings, training).items() if name not in ready
    }  # fmt: skip
    FoldModels(warehouse, model_fingerprint(settings, training)).keep(number, made)
    fold, sessions = folds[number], training.panel.sessions
    return dg.MaterializeResult(
        metadata={
            "models": len(made), "ready_before": len(ready), "as_of": str(session),
            "train_to": str(sessions[fold.train_stop - 1]), "test_from": str(sessions[fold.test_start]),
        }
    )  # fmt: skip


def _choosers(warehouse: Warehouse, settings: Settings, training: TrainingSet) -> dict[str, Chooser]:
    config, record = settings.strategies.models, _recorder(warehouse, settings, training)
    return {name: Chooser(name, config, training, record) for name in config.estimators}


def _ready(warehouse: Warehouse, settings: Settings, training: TrainingSet, name: str) -> dict[int, Estimator]:
    """Models of folds that a backfill made from this training set and these settings."""
    kept = FoldModels(warehouse, model_fingerprint(settings, training)).of(name)
    return {fold: estimator_from_bytes(content) for fold, content in kept.items()}


@dg.multi_asset(
    name="train_and_review",
    specs=[
        dg.AssetSpec(
            keys.WALK_FORWARD, group_name=GROUP, owners=OWNERS, kinds={"xgboost", "mlflow"},
            deps=[
                keys.TRAINING_SETS, dg.AssetDep(keys.FOLD_MODELS, partition_mapping=dg.AllPartitionMapping()),
            ],
            description="Walk-forward models, purged and embargoed: each has seen only the past of its test block.",
        ),
        dg.AssetSpec(
            keys.REVIEWS, group_name=GROUP, owners=OWNERS, kinds={"mlflow"}, deps=[keys.TRAINING_SETS],
            description="Each model's out-of-sample scores against the gates; what passes is a challenger in MLflow.",
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            _EVERY_GATE, asset=keys.REVIEWS,
            description="Each model that is trained passed every gate; what did not may not speak, and this says why.",
        )
    ],
    partitions_def=partitions.SESSIONS,
)  # fmt: skip
def train_and_review(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    registry: dg.ResourceParam[ModelRegistry],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Train each estimator once for a training set, score it, judge it, register it."""
    session, config = partitions.session_of(context), settings.strategies.models
    training = inputs.training_set(settings, warehouse, session)
    reviewed = _reviewed(warehouse, settings, training)
    walks: dict[str, WalkForward] = {}
    choosers = _choosers(warehouse, settings, training)
    for name in config.estimators:
        if name not in reviewed:
            ready = _ready(warehouse, settings, training, name)
            context.log.info(f"training {name} on {training.labelled:,} rows, {len(ready)} folds are ready")
            walks[name] = walkforward.run(training, config, choosers[name], ready=ready)
    trials = _trials(warehouse, settings, training, walks)
    looks_ahead = _looks_ahead(settings, training)
    for name, walk in walks.items():
        _train_one(context, settings, warehouse, registry, training, name, walk, choosers[name], trials, looks_ahead)
    yield dg.MaterializeResult(asset_key=keys.WALK_FORWARD, metadata=_fold_metadata(warehouse, settings, training))
    yield dg.MaterializeResult(
        asset_key=keys.REVIEWS, metadata=_review_metadata(warehouse, settings, training, len(walks))
    )
    yield _gate_check(warehouse, settings, training)


def model_fingerprint(settings: Settings, training: TrainingSet) -> str:
    """Of the training set and everything that shapes a model."""
    config = settings.strategies.models
    judged = config.model_dump(mode="json", include={"gates", "registered_name", "tried_before", "cross_validation"})
    return fingerprint(training.fingerprint, config.shape(), judged)


def _reviewed(warehouse: Warehouse, settings: Settings, training: TrainingSet) -> set[str]:
    rows = warehouse.rows(
        "select model from models.reviews where fingerprint = %s", [model_fingerprint(settings, training)]
    )
    return {row["model"] for row in rows}


def _trials(
    warehouse: Warehouse, settings: Settings, training: TrainingSet, walks: dict[str, WalkForward]
) -> list[Trial]:
    """Every model ever tried on days of this training set, whatever it was called; those of now are put on record."""
    sessions = training.panel.sessions
    source, first, last = settings.universe.market_data, sessions[0].item(), sessions[-1].item()
    ledger = TrialLedger(warehouse)
    chosen = inputs.model_parameters(settings.strategies.models)
    ledger.record(
        [
            Trial(
                "model",
                name,
                {"estimator": name, "features": training.names, **_own(walk), **chosen},
                source,
                first,
                last,
                spread,
            )
            for name, walk in walks.items()
            if len(spread := _finite(evaluation.spread_returns(training, walk.predictions)))
        ]
    )
    return ledger.overlapping(source, first, last, MODELS)


def _recorder(warehouse: Warehouse, settings: Settings, training: TrainingSet) -> Callable[[Tried], None]:
    """Puts each trial of a search on record at once: a run that breaks off has still tried it."""
    ledger, source = TrialLedger(warehouse), settings.universe.market_data
    shared = inputs.model_parameters(settings.strategies.models)

    def record(tried: Tried) -> None:
        parameters = {
            "estimator": tried.estimator, "features": training.names, **shared, "settings": dict(tried.settings),
            "measured": "purged folds",
        }  # fmt: skip
        ledger.record(
            [Trial("search", tried.estimator, parameters, source, tried.first_session, tried.last_session,
                   tried.returns)]
        )  # fmt: skip

    return record


def _own(walk: WalkForward) -> dict[str, Any]:
    """The settings of a model that are no part of what every trial tells (`octopus.models.config`)."""
    settings = {} if not walk.estimators else walk.estimators[-1].settings.model_dump(mode="json")
    return {} if not walk.estimators or walk.estimators[-1].name in _TOLD else {"settings": settings}


_TOLD = ("ridge", "xgboost")


def _finite(values: FloatArray) -> FloatArray:
    return np.asarray(values[np.isfinite(values)])


def _looks_ahead(settings: Settings, training: TrainingSet) -> tuple[str, ...]:
    """Features that depend on later sessions, seen from the middle and from the last quarter of the data."""
    panel = training.panel
    cube = inputs.prepared(panel, settings.decision).features
    last = len(panel.sessions) - 1
    return tuple(sorted({name for row in (last // 2, 3 * last // 4) for name in look_ahead(panel, cube, row)}))


def _train_one(
    context: dg.AssetExecutionContext,
    settings: Settings,
    warehouse: Warehouse,
    registry: ModelRegistry,
    training: TrainingSet,
    name: str,
    walk: WalkForward,
    chooser: Chooser,
    trials: list[Trial],
    looks_ahead: tuple[str, ...],
) -> None:
    """Score, judge and register one estimator; MLflow first, so that a crash leaves a version that is found again."""
    config, mark = settings.strategies.models, model_fingerprint(settings, training)
    scores = evaluation.evaluate(
        training, walk.predictions, walk.folds, config.horizon_sessions, trials, config.tried_before,
        settings.strategies.costs.linear_rate,
    )  # fmt: skip
    review = gates.review(scores, config.gates, parity=_parity(training, walk), truncation=not looks_ahead)
    if looks_ahead:
        context.log.error(
            f"features that look ahead: {', '.join(looks_ahead)}; mend them in octopus/strategy/features.py"
        )
    key = fingerprint(mark, name)
    registered = registry.find(config.registered_name, key)
    if registered is None:
        registered = registry.log(_trained(context, settings, training, name, walk, chooser, scores, review, key))
    sessions = training.panel.sessions
    folds = pl.DataFrame(
        [
            {
                "model": name, "fingerprint": mark, "fold": fold.number,
                "train_from": sessions[fold.train_start].item(), "train_to": sessions[fold.train_stop - 1].item(),
                "test_from": sessions[fold.test_start].item(), "test_to": sessions[fold.test_stop - 1].item(),
                "rank_ic": ic, "artifact": f"{registered.artifact_uri}/folds/{fold.number:03d}.bin",
            }
            for fold, ic in zip(walk.folds, scores.fold_rank_ic, strict=True)
        ]
    )  # fmt: skip
    if walk.folds:
        warehouse.replace("models.walk_forward_folds", {"model": name, "fingerprint": mark}, folds)
    else:
        context.log.warning(f"{name}: the history is too short for a test block; it cannot pass its review")
    record = pl.DataFrame(
        {
            "model": [name], "fingerprint": [mark], "as_of": [sessions[-1].item()], "version": [registered.version],
            "mlflow_run_id": [registered.run_id], "passed": [review.passed],
            "gates": [canonical_json(review.record())], "scores": [canonical_json(scores.record())],
            "registered_name": [config.registered_name],
        }
    )  # fmt: skip
    warehouse.insert_new("models.reviews", record)


def _parity(training: TrainingSet, walk: WalkForward) -> bool:
    """Serving the last session alone, by rows or by columns as pandas keeps them, gives the walk-forward's bits."""
    if not walk.folds:
        return False
    row = walk.folds[-1].test_stop - 1
    known = ~np.isnan(walk.predictions[row])
    alone = Rows.of(training.features[row : row + 1], training.panel.sessions[row : row + 1], training.panel.symbols)
    served = [
        walk.estimators[-1].predict(replace(alone, features=order(alone.features)))
        for order in (np.ascontiguousarray, np.asfortranarray)
    ]
    return all(np.array_equal(values[known], walk.predictions[row][known]) for values in served)


def _trained(
    context: dg.AssetExecutionContext,
    settings: Settings,
    training: TrainingSet,
    name: str,
    walk: WalkForward,
    chooser: Chooser,
    scores: evaluation.Scores,
    review: gates.Review,
    key: str,
) -> TrainedModel:
    config, sessions = settings.strategies.models, training.panel.sessions
    final = walkforward.fit(training, chooser)
    example = Rows.of(training.features[-1:, :_EXAMPLES], sessions[-1:], training.panel.symbols[:_EXAMPLES])
    importance = evaluation.importance(final, training)
    routes = None
    if config.cross_validation.groups:
        chosen = final.settings.model_dump()
        routes = crossval.score(training, crossval.along_paths(training, config, lambda: make(name, config, chosen)))
    source = settings.universe.market_data
    data = data_record(training, source, training_session(partitions.session_of(context), config.retrain))
    return TrainedModel(
        name=config.registered_name,
        fingerprint=key,
        parameters={
            "estimator": name, "horizon_sessions": config.horizon_sessions, "window": config.window,
            "embargo_sessions": config.embargo, "label": config.label.kind,
            "train_from": str(sessions[0]), "train_to": str(sessions[-1]),
            "rows": training.labelled, "features": len(training.names), "trials": scores.trials, "seed": config.seed,
            **{f"{name}.{field}": value for field, value in final.settings.model_dump().items()},
        },
        metrics={
            "ic": scores.ic, "rank_ic": scores.rank_ic, "icir": scores.icir, "t_stat": scores.t_stat,
            "hit_rate": scores.hit_rate,
            "spread_sharpe": scores.spread_sharpe, "deflated_sharpe": scores.deflated_sharpe,
            "turnover_annual": scores.turnover_annual, "net_spread_annual": scores.net_spread_annual,
            "trials": scores.trials, "trials_clustered": scores.trials_clustered,
            "calibration_beta": scores.calibration_beta,
            **({"pbo": scores.pbo} if np.isfinite(scores.pbo) else {}),
            **({} if routes is None else routes.metrics()),
        },
        fold_metrics={
            "fold_ic": scores.fold_ic, "fold_rank_ic": scores.fold_rank_ic, "fold_icir": scores.fold_icir,
            "fold_hit_rate": scores.fold_hit_rate, "fold_calibration_beta": scores.fold_calibration_beta,
        },
        estimator=final.to_bytes(),
        folds=[estimator.to_bytes() for estimator in walk.estimators],
        pictures={
            "folds.png": fold_picture([sessions[f.test_start].item() for f in walk.folds], scores.fold_rank_ic),
            "calibration.png": calibration_picture(scores.calibration),
            **({} if routes is None else {"paths.png": paths_picture(routes.spread_sharpe)}),
            **({} if importance is None else {"importance.png": importance_picture(training.names, importance)}),
        },
        documents={
            "model_card.md": model_card(
                Subject(name, final.settings.model_dump(mode="json"), source, config, training, walk.folds, scores,
                        review, importance, _SURVIVORS if settings.recorded else ())
            ),
            "data.json": json.dumps(data, indent=1, default=str),
        },
        example=_columns(example, training.names, with_places=final.needs_places),
        predicted=final.predict(example),
        requirements=final.requirements,
        passed=review.passed,
        reasons=[gate.reason for gate in review.gates],
        tags={"estimator": name, "dagster/run_id": context.run.run_id, "data_fingerprint": training.fingerprint,
              "data_as_of": str(data["as_of"]),
              **{f"gate.{gate.name}": f"{'passed' if gate.passed else 'FAILED'}: {gate.reason}"
                 for gate in review.gates}},
    )  # fmt: skip


def _columns(rows: Rows, names: tuple[str, ...], *, with_places: bool) -> dict[str, Any]:
    """Rows as the columns that MLflow serves a model by."""
    columns: dict[str, Any] = {name: rows.features[:, index] for index, name in enumerate(names)}
    if with_places:
        sessions, instruments = rows.places
        columns |= {"session": sessions.astype("datetime64[ns]"), "instrument": instruments}
    return columns


def _fold_metadata(warehouse: Warehouse, settings: Settings, training: TrainingSet) -> dict[str, Any]:
    frame = warehouse.read(
        """
        select model, fold, train_to, test_from, test_to, rank_ic from models.walk_forward_folds
        where fingerprint = $1 order by model, fold
        """,
        [model_fingerprint(settings, training)],
    )
    return {"folds": len(frame), "table": reporting.table(frame, limit=60)}


def _review_metadata(warehouse: Warehouse, settings: Settings, training: TrainingSet, trained: int) -> dict[str, Any]:
    rows = warehouse.rows(
        "select * from models.reviews where fingerprint = %s order by model", [model_fingerprint(settings, training)]
    )
    frame = pl.DataFrame(
        [
            {"model": row["model"], "version": row["version"], "gate": gate["name"], "value": gate["value"],
             "wanted": gate["limit"], "passed": gate["passed"]}
            for row in rows for gate in row["gates"]
        ]
    )  # fmt: skip
    passed = [row["model"] for row in rows if row["passed"]]
    return {
        "trained_now": trained, "passed": ", ".join(passed) or "none: the model signal abstains",
        "table": reporting.table(frame),
    }  # fmt: skip


def _gate_check(warehouse: Warehouse, settings: Settings, training: TrainingSet) -> dg.AssetCheckResult:
    """A warning: a model that fails its review stops nothing but itself."""
    rows = warehouse.rows(
        "select model, version, gates from models.reviews where fingerprint = %s and model = any(%s) order by model",
        [model_fingerprint(settings, training), list(settings.strategies.models.estimators)],
    )
    return dg.AssetCheckResult(
        check_name=_EVERY_GATE, asset_key=keys.REVIEWS, severity=dg.AssetCheckSeverity.WARN,
        passed=all(gate["passed"] for row in rows for gate in row["gates"]),
        metadata={
            f"{row['model']} version {row['version']}": dg.MetadataValue.md(
                "\n".join(f"- {'passed' if gate['passed'] else '**FAILED**'} {gate['reason']}" for gate in row["gates"])
            )
            for row in rows
        },
    )  # fmt: skip


@dg.asset(
    key=keys.CHAMPION_HISTORY, group_name=GROUP, owners=OWNERS, kinds={"mlflow", "postgres"}, deps=[keys.REVIEWS],
    partitions_def=partitions.SESSIONS,
    check_specs=[
        dg.AssetCheckSpec(
            _CHAMPION_PASSED, asset=keys.CHAMPION_HISTORY, blocking=True,
            description="Whoever appointed it, the champion passed every gate and was trained before the session.",
        )
    ],
)  # fmt: skip
def champion_history(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    registry: dg.ResourceParam[ModelRegistry],
    clock: dg.ResourceParam[Clock],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Every move of the champion's alias, dated: a session uses the champion as of its own decision."""
    session, config = partitions.session_of(context), settings.strategies.models
    recorded = inputs.appointments(warehouse, config.registered_name)
    effective = settings.sessions.decision_utc(session)
    current = registry.alias(config.registered_name)
    by = "a person, in MLflow"
    if current is None and not recorded and config.auto_champion and effective <= clock.now():
        best = _best_passed(warehouse, settings, session)
        if best is not None:
            registry.appoint(config.registered_name, best.version)
            current, by = best.version, "policy: the first model that passed every gate"
    last = recorded[-1].version if recorded else None
    moved = current != last
    if moved:
        # A move that a person makes counts from when it was seen; on recorded data that is the replayed instant.
        moment = max(effective if not recorded else clock.now(), effective)
        warehouse.insert_new(
            "models.champion_history",
            pl.DataFrame(
                {
                    "name": [config.registered_name], "alias": [CHAMPION], "version": [current],
                    "effective_from": [moment], "recorded_at": [datetime.now(UTC)], "appointed_by": [by],
                },
                schema_overrides={"version": pl.Int64},
            ),
        )  # fmt: skip
    moves = inputs.appointments(warehouse, config.registered_name)
    yield dg.MaterializeResult(
        metadata={
            "champion": f"{config.registered_name} version {current}" if current else "none", "moved": moved,
            "moves": len(moves),
        }
    )  # fmt: skip
    spoken = [move for move in moves if move.effective_from <= effective]
    reason = silenced(spoken[-1], session) if spoken else None
    yield dg.AssetCheckResult(
        check_name=_CHAMPION_PASSED, asset_key=keys.CHAMPION_HISTORY, passed=reason is None,
        metadata={"reason": reason or "the champion may speak" if spoken else "there is no champion"},
    )  # fmt: skip


def _best_passed(warehouse: Warehouse, settings: Settings, session: date) -> Registered | None:
    """Of the models that passed on the current training set, the one with the highest rank correlation."""
    name = settings.strategies.models.registered_name
    rows = warehouse.rows(
        """
        select version, mlflow_run_id from models.reviews
        where passed and as_of <= %s and coalesce(registered_name, %s) = %s
        order by as_of desc, (scores ->> 'rank_ic')::float8 desc limit 1
        """,
        [session, name, name],
    )
    if not rows:
        return None
    return Registered(name, rows[0]["version"], rows[0]["mlflow_run_id"], "")


@dg.asset(
    key=keys.PREDICTIONS, group_name=GROUP, owners=OWNERS, kinds={"python", "postgres"},
    deps=[keys.CHAMPION_HISTORY, keys.WALK_FORWARD, keys.FEATURES], partitions_def=partitions.SESSIONS,
)  # fmt: skip
def predictions(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    warehouse: dg.ResourceParam[Warehouse],
    registry: dg.ResourceParam[ModelRegistry],
) -> dg.MaterializeResult[None]:
    """The champion's predictions for the session; before any appointment those of the fold that had not seen it."""
    session = partitions.session_of(context)
    speaker = inputs.speaker(settings, warehouse, session)
    if speaker is None:
        frame = pl.DataFrame(schema={"instrument": pl.String, "value": pl.Float64})
    else:
        panel = inputs.panel(settings, warehouse, session)
        ready, last = inputs.prepared(panel, settings.decision), np.array([len(panel.sessions) - 1])
        values = inputs.opinions(inputs.estimator(registry, speaker), ready, last)[0]
        frame = pl.DataFrame({"instrument": panel.symbols, "value": values}).filter(pl.col("value").is_not_nan())
    label = speaker.label if speaker is not None else ""
    rows = frame.with_columns(pl.lit(session).alias("session"), pl.lit(label).alias("model"))
    changed = warehouse.replace("models.predictions", {"session": session}, rows)
    return dg.MaterializeResult(
        metadata={
            "model": label or "none: no model that passed its review speaks, the signal abstains", "rows": len(frame),
            "changed": changed, "table": reporting.table(frame.sort("value", descending=True)),
        }
    )  # fmt: skip


ASSETS = (training_sets, fold_models, train_and_review, champion_history, predictions)
