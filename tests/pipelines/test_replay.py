"""Replaying past days through the daily path gives the backtest's targets, each day with the model of that day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from assets import inputs
from assets.models import predictions, train_and_review, training_sets
from assets.portfolio import target_weights
from octopus.backtest.simulator import run_backtest
from octopus.core.orders import AccountSnapshot
from resources.warehouse.plans import Plans

DAYS, THIRDS = 60, 3


@pytest.mark.timeout(600)
@pytest.mark.parametrize("third", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, THIRDS))])
def test_days_through_the_daily_path_equal_the_backtest(house, third: int) -> None:  # type: ignore[no-untyped-def]
    """Of sixty days each third in the fast suite: a day begins with the backtest's account, not the day before's."""
    settings, warehouse = house.settings, house.resources["warehouse"]
    house.call(training_sets, "2022-12-27")
    house.call(train_and_review, "2022-12-27")
    panel = inputs.panel(settings, warehouse, date(2022, 12, 27))
    prepared = inputs.prepared(panel, settings.decision)
    spoken = inputs.past_predictions(settings, warehouse, house.resources["registry"], prepared)
    assert spoken is not None, "no fold speaks: the test would not show anything about models"
    result = run_backtest(panel, settings.strategies.backtest, settings.decision, spoken, prepared)
    has_model = ~np.isnan(spoken[panel.at(result.sessions[0].item()) :]).all(axis=1)
    decided = np.flatnonzero(has_model & ~np.isnan(result.targets).all(axis=1))[-DAYS:][third::THIRDS]
    assert len(decided) == DAYS // THIRDS
    models = set()
    for row in decided:
        session = result.sessions[row].item()
        held = {
            name: Decimal(repr(shares))
            for name, shares in zip(result.symbols, result.shares[row].tolist(), strict=True)
            if shares
        }
        prices = {n: Decimal(repr(p)) for n, p in zip(result.symbols, result.marks[row].tolist(), strict=True)}
        snapshot = AccountSnapshot(
            settings.paper.account, settings.sessions.decision_utc(session), Decimal(repr(float(result.cash[row]))),
            held, prices,
        )  # fmt: skip
        Plans(warehouse).save_snapshot(session, snapshot)
        house.call_body(predictions, session.isoformat())
        house.call_body(target_weights, session.isoformat())
        stored = {
            r["instrument"]: r["weight"]
            for r in warehouse.rows("select * from portfolio.target_weights where session = %s", [session])
        }
        replayed = np.array([stored[name] for name in result.symbols])
        # The weights held come from a ledger of floats on one side and of decimals on the other.
        np.testing.assert_allclose(replayed, result.targets[row], rtol=0, atol=1e-9, err_msg=str(session))
        (model,) = {
            r["model"] for r in warehouse.rows("select model from models.predictions where session = %s", [session])
        }
        models.add(model)
        today = dict(zip(panel.symbols, spoken[panel.at(session)].tolist(), strict=True))
        for r in warehouse.rows("select * from models.predictions where session = %s", [session]):
            assert r["value"] == today[r["instrument"]], "a prediction of the daily path differs from the backtest's"
    assert len(models) >= 2, "the days should span more than one fold"
