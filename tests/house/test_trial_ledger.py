"""The trial ledger: what was tried stays tried, whatever it is called and whoever would rather forget it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import psycopg
import pytest

from octopus.core.trials import Trial
from resources.warehouse.connection import Role, connect
from resources.warehouse.store import Warehouse
from resources.warehouse.trials import TrialLedger

ONE = Trial(
    "backtest", "mine", {"window": 5}, "sample", date(2010, 1, 4), date(2010, 1, 8), np.array([0.1, -0.05, 0.2])
)


def test_a_trial_is_recorded_once_and_read_by_any_strategy_on_its_days(database_url):
    ledger = TrialLedger(Warehouse(database_url, Role.RESEARCH))
    other = replace(ONE, kind="sweep", name="other", parameters={"window": 6})
    assert ledger.record([ONE, other, replace(ONE, parameters={"window": 7}, returns=np.array([np.nan]))]) == 2
    assert ledger.record([replace(ONE, name="renamed")]) == 0
    assert ledger.record([replace(ONE, parameters={"window": 8}, returns=np.array([]))]) == 0
    found = ledger.overlapping("sample", date(2010, 1, 8), date(2011, 1, 1), ["backtest", "sweep"])
    assert {(one.name, one.parameters["window"]) for one in found} == {("mine", 5), ("other", 6)}
    assert found[0].returns == pytest.approx([0.1, -0.05, 0.2])
    assert found[0].trial_id in {ONE.trial_id, other.trial_id}
    assert ledger.overlapping("sample", date(2010, 1, 9), date(2011, 1, 1), ["backtest"]) == []
    assert ledger.overlapping("yahoo", date(2010, 1, 1), date(2011, 1, 1), ["backtest"]) == []


@pytest.mark.parametrize("statement", ["delete from backtest.trials", "update backtest.trials set name = 'x'",
                                       "truncate backtest.trials"])  # fmt: skip
@pytest.mark.parametrize("role", list(Role))
def test_nobody_can_make_a_trial_undone(database_url, role, statement):
    TrialLedger(Warehouse(database_url, Role.RESEARCH)).record([ONE])
    wanted = psycopg.errors.RaiseException if role is Role.OWNER else psycopg.errors.InsufficientPrivilege
    with connect(database_url, role, autocommit=True) as connection, pytest.raises(wanted):
        connection.execute(statement)
    with connect(database_url) as connection:
        assert connection.execute("select count(*) from backtest.trials").fetchone() == (1,)
