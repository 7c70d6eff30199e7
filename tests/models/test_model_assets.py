"""The models' assets on a small market, in real databases and a real MLflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets import inputs
from assets.model_watch import drift, shadow
from assets.models import champion_history, fold_models, predictions, train_and_review, training_sets
from octopus.core.panel import Panel
from octopus.strategy.features import compute_features
from resources.clock import WallClock
from resources.settings import load_settings
from tests.models.small import install_package, persistent_panel
from tests.pipelines.conftest import House, make_house

DAY = "2021-12-28"
FEATURES = compute_features(persistent_panel(np.arange("2018-01-01", "2018-03-01", dtype="datetime64[D]"))).names


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Three years of twelve instruments; ridge and a model of another package."""
    folder = tmp_path_factory.mktemp("models")
    package = folder / "site"
    package.mkdir()
    install_package(package, "tiny = tiny_models:Tiny")
    sessions = load_settings({}).sessions.between(date(2019, 1, 2), date(2022, 1, 31))
    whole = persistent_panel(np.array(sessions, dtype="datetime64[D]"))

    def panel(settings: object, warehouse: object, session: date) -> Panel:
        return whole.until(session)

    changes = {
        "strategies.models.estimators": ["ridge", "tiny"],
        "strategies.models.extensions": {"tiny": {"scale": 2.0}},
        "strategies.models.search": {"trials": 3, "folds": 2},
        "strategies.models.cross_validation": {"groups": 3, "tested": 2},
        "strategies.models.train_min_sessions": 300,
        "strategies.models.test_sessions": 126,
        "strategies.models.tried_before": 0,
        "strategies.models.gates": {
            "rank_ic_min": 0.0, "rank_ic_max": 1.0, "t_min": 0.0, "deflated_sharpe_min": 0.0, "net_spread_min": -1.0,
            "positive_folds_min": 0.0,
        },
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package)
        patch.setattr(inputs, "panel", panel)
        for made in make_house(server_url, folder / "house", **changes):
            made.resources["clock"] = WallClock()
            yield made
    sys.modules.pop("tiny_models", None)


@pytest.fixture(scope="module")
def trained(house: House) -> House:
    house.call(training_sets, DAY)
    as_of = {"ops": {"models__fold_models": {"config": {"as_of": DAY}}}}
    for fold in ("001", "099"):
        assert results(house, fold_models, fold, as_of) == {}
    checks = results(house, train_and_review)
    assert checks["every_gate_passed"].passed
    said = checks["every_gate_passed"].metadata
    assert any("mean rank correlation out of sample" in str(value.value) for value in said.values())
    return house


def results(
    house: House, asset: dg.AssetsDefinition, session: str = DAY, config: dict[str, Any] | None = None
) -> dict[str, dg.AssetCheckEvaluation]:
    """Materialise an asset; what its checks said."""
    needed = {name: house.resources[name] for name in asset.required_resource_keys if name in house.resources}
    instance = dg.DagsterInstance.ephemeral()
    ran = dg.materialize(
        [asset], partition_key=session, resources=needed, instance=instance, raise_on_error=False, run_config=config
    )
    checks = {check.check_name: check for check in ran.get_asset_check_evaluations()}
    assert ran.success or any(not check.passed and check.blocking for check in checks.values())
    return checks


def test_a_model_of_another_package_is_trained_reviewed_and_speaks(trained: House) -> None:
    reviews = trained.warehouse.rows("select model, passed, version from models.reviews order by model")
    assert [row["model"] for row in reviews] == ["ridge", "tiny"]
    trained.call(predictions, "2021-06-30")
    (speaker,) = trained.warehouse.rows("select distinct model from models.predictions")
    assert speaker["model"] == "ridge:fold-2", "the better one, by the fold that had not seen the day"
    registry = trained.resources["registry"]
    tiny = next(row["version"] for row in reviews if row["model"] == "tiny")
    assert registry.estimator("octopus-return", tiny).startswith(b"tiny\n")
    assert (
        trained.warehouse.scalar("select parameters -> 'settings' ->> 'scale' from backtest.trials where name = 'tiny'")
        == "2.0"
    )


def test_a_fold_that_was_made_alone_is_the_one_of_the_review(trained: House) -> None:
    made = trained.warehouse.rows("select model, fold, content from models.fold_models order by model")
    assert [(row["model"], row["fold"]) for row in made] == [("ridge", 1), ("tiny", 1)], "there is no 99th fold"
    uris = {
        row["model"]: row["artifact"]
        for row in trained.warehouse.rows("select model, artifact from models.walk_forward_folds where fold = 1")
    }
    for row in made:
        folder, file = uris[row["model"]].rsplit("/folds/", 1)
        assert trained.resources["registry"].artifact(folder, f"folds/{file}") == bytes(row["content"])


def test_every_trial_of_a_search_is_on_record_and_deflates(trained: House) -> None:
    trials = trained.warehouse.rows("select kind, name, last_session from backtest.trials order by kind, name")
    assert [(row["kind"], row["name"]) for row in trials] == [
        ("model", "ridge"), ("model", "tiny"), ("search", "ridge"), ("search", "ridge"), ("search", "ridge"),
    ]  # fmt: skip
    first_block = trained.warehouse.scalar("select min(test_from) from models.walk_forward_folds")
    assert all(row["last_session"] < first_block for row in trials if row["kind"] == "search")
    counts = trained.warehouse.rows("select (scores ->> 'trials')::int as trials from models.reviews")
    assert {row["trials"] for row in counts} == {5}


def test_a_reviewer_reads_card_data_folds_and_reasons_in_mlflow(trained: House) -> None:
    import mlflow

    registry = trained.resources["registry"]
    (row,) = trained.warehouse.rows("select * from models.reviews where model = 'ridge'")
    run = mlflow.MlflowClient(registry.tracking_uri).get_run(row["mlflow_run_id"])
    uri = run.info.artifact_uri
    card = registry.artifact(uri, "model_card.md").decode()
    assert "# octopus-return · ridge" in card
    assert "settings searched with 3 trials" in card
    for gate in row["gates"]:
        assert f"| {gate['name']} | passed | {gate['reason']} |" in card
        assert run.data.tags[f"gate.{gate['name']}"] == f"passed: {gate['reason']}"
    data = json.loads(registry.artifact(uri, "data.json"))
    assert data["as_of"] == run.data.tags["data_as_of"] == "2021-09-30"
    assert data["fingerprint"] == run.data.tags["data_fingerprint"]
    assert list(data["rows_sha256"]) == ["2019", "2020", "2021"]
    tracked = {"ic", "rank_ic", "icir", "hit_rate", "calibration_beta", "fold_ic", "fold_icir", "fold_hit_rate",
               "fold_calibration_beta", "cpcv_rank_ic_mean", "cpcv_spread_sharpe_worst"}  # fmt: skip
    assert tracked <= set(run.data.metrics)
    loaded = mlflow.pyfunc.load_model(f"models:/octopus-return/{row['version']}")
    assert loaded.metadata.signature is not None
    example = loaded.input_example
    assert np.isfinite(loaded.predict(example)).all()


def test_drift_and_the_shadow_are_watched_as_of_the_session(trained: House) -> None:
    warehouse = trained.warehouse
    trained.call(shadow, "2019-06-28")
    assert warehouse.scalar("select count(*) from models.shadow") == 0, "nobody spoke"
    trained.call(champion_history, DAY)
    said = results(trained, drift)["no_drift"]
    assert said.severity == dg.AssetCheckSeverity.WARN
    rows = warehouse.rows(
        "select * from models.drift where session = %s order by kind, name", [date.fromisoformat(DAY)]
    )
    assert {row["kind"] for row in rows} == {"feature", "prediction"}
    (prediction,) = [row for row in rows if row["kind"] == "prediction"]
    champion = trained.resources["registry"].alias("octopus-return")
    assert prediction["name"] == f"octopus-return:{champion}"
    assert prediction["psi"] is not None
    far = [row["name"] for row in rows if row["kind"] == "feature" and row["drifted"]]
    assert said.metadata["features_drifted"].value == (", ".join(n for n in FEATURES if n in far) or "none")
    results(trained, drift, "2019-03-29")
    assert warehouse.scalar("select count(*) from models.drift where session = '2019-03-29'") == 0
    trained.call(shadow, DAY)
    (row,) = warehouse.rows("select * from models.shadow")
    assert (row["champion"], row["challenger"]) == (f"octopus-return:{champion}", "octopus-return:2")
    assert row["sessions"] == 61, "from the first session after the training's end to the day itself"
    assert -1 <= row["today_rank_correlation"] <= 1
    assert row["champion_spread"] != row["challenger_spread"]


def test_a_champion_that_failed_its_gates_is_silent_and_stops_what_follows(trained: House) -> None:
    registry, warehouse = trained.resources["registry"], trained.warehouse
    checks = results(trained, champion_history)
    assert checks["champion_passed_its_gates"].passed, "appointed by policy: it passed every gate"
    good = registry.alias("octopus-return")
    trained.call(predictions, DAY)
    speaking = "select distinct model from models.predictions where session = %s"
    assert warehouse.scalar(speaking, [date.fromisoformat(DAY)]) == f"octopus-return:{good}"
    with warehouse.connect() as connection:
        connection.execute(
            """
            insert into models.reviews
            select 'worse', fingerprint, as_of, 99, mlflow_run_id, false, gates, scores, registered_name
            from models.reviews where model = 'ridge'
            """
        )
        connection.execute(
            "insert into models.champion_history values ('octopus-return', 'champion', 99, "
            "'2022-01-10T00:00:00Z', now(), 'a person, in MLflow')"
        )
    speaker = inputs.speaker(trained.settings, warehouse, date(2022, 1, 18))
    assert speaker is None
    later = results(trained, champion_history, "2022-01-18")["champion_passed_its_gates"]
    assert not later.passed
    assert later.blocking
    assert "version 99 did not pass its gates: move the alias champion back" in str(later.metadata["reason"].value)
