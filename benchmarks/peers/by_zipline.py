"""A daily rebalance by zipline-reloaded 3.2, in whole shares.

Belongs here: the rule said to zipline, and the least of a data bundle that it needs. Does not: ours, comparing,
measuring memory.

Given are ``close`` and ``targets`` (T, N), and ``days`` (T,), sessions of XNYS. On each close an order for every
instrument takes it towards its target weight, sized with that close and cut to whole shares (zipline's own
``order_target_percent`` rounds up what is within 1e-4 of one more); it fills at the next close, without slippage, and
pays 5 basis points of the value. Answered are the account's value after each close (T,) and the ledger of trades.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.rules import CASH, FEES
from benchmarks.peers.timing import Answer, Given, report


def rebalance(given: Given) -> Callable[[], Answer]:
    """One portfolio to the target weights of each session."""
    import pandas as pd
    from zipline import TradingAlgorithm, api
    from zipline.finance.commission import PerDollar
    from zipline.finance.metrics.metric import DailyLedgerField, Transactions
    from zipline.finance.slippage import FixedSlippage
    from zipline.finance.trading import SimulationParameters
    from zipline.utils.calendar_utils import get_calendar

    days = pd.DatetimeIndex(given["days"])
    calendar, targets = get_calendar("XNYS"), given["targets"]
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    portal, count = _portal(given["close"], days, calendar, folder), given["close"].shape[1]

    def work() -> Answer:
        row = 0

        def initialize(context: Any) -> None:
            context.assets = [api.sid(number) for number in range(count)]
            api.set_commission(PerDollar(FEES))
            api.set_slippage(FixedSlippage(0.0))

        def handle_data(context: Any, data: Any) -> None:
            nonlocal row
            worth, held = context.portfolio.portfolio_value, context.portfolio.positions
            prices = data.current(context.assets, "close").to_numpy()
            shares = np.array([held[asset].amount if asset in held else 0 for asset in context.assets])
            for asset, change in zip(context.assets, np.trunc(targets[row] * worth / prices - shares), strict=True):
                if change:
                    api.order(asset, int(change))
            row += 1

        algorithm = TradingAlgorithm(
            sim_params=SimulationParameters(
                start_session=days[0], end_session=days[-1], trading_calendar=calendar, capital_base=CASH,
                data_frequency="daily", emission_rate="daily",
            ),
            data_portal=portal, trading_calendar=calendar, initialize=initialize, handle_data=handle_data,
            benchmark_returns=pd.Series(0.0, index=days),
            # Its default set has thirty more, daily: the least is the fairer comparison.
            metrics_set={Transactions(), DailyLedgerField("portfolio.portfolio_value")},
        )  # fmt: skip
        frame = algorithm.run()
        made = [one for session in frame["transactions"] for one in session]
        places = {day.normalize().tz_localize(None): place for place, day in enumerate(days)}
        return {
            "equity": frame["portfolio_value"].to_numpy(dtype=float),
            "row": np.array([places[pd.Timestamp(one["dt"]).tz_localize(None).normalize()] for one in made]),
            "column": np.array([one["sid"].sid for one in made]),
            "size": np.array([one["amount"] for one in made], dtype=float),
            "price": np.array([one["price"] for one in made]),
        }

    return work


def _portal(close: Any, days: Any, calendar: Any, folder: str) -> Any:
    """What a bundle consists of: bars in zipline's own files, to a tenth of a cent, and the names of instruments."""
    import pandas as pd
    from sqlalchemy import create_engine
    from zipline.assets import AssetDBWriter, AssetFinder
    from zipline.data.bcolz_daily_bars import BcolzDailyBarReader, BcolzDailyBarWriter
    from zipline.data.data_portal import DataPortal

    engine = create_engine("sqlite://")
    sids = pd.Index(range(close.shape[1]), dtype="int64")
    about = {
        "symbol": [f"S{number:03d}" for number in sids], "asset_name": "", "start_date": days[0], "end_date": days[-1],
        "first_traded": days[0], "auto_close_date": days[-1] + pd.Timedelta(days=30), "exchange": "XNYS",
    }  # fmt: skip
    exchanges = pd.DataFrame({"exchange": ["XNYS"], "canonical_name": ["XNYS"], "country_code": ["US"]})
    AssetDBWriter(engine).write(equities=pd.DataFrame(about, index=sids), exchanges=exchanges)
    bars = (
        (sid, pd.DataFrame({"open": one, "high": one, "low": one, "close": one, "volume": 1e9}, index=days))
        for sid, one in enumerate(close.T)
    )
    BcolzDailyBarWriter(folder, calendar, days[0], days[-1]).write(bars)
    reader = BcolzDailyBarReader(folder)
    return DataPortal(
        AssetFinder(engine), trading_calendar=calendar, first_trading_day=days[0], equity_daily_reader=reader,
        last_available_session=days[-1], last_available_minute=calendar.session_last_minute(days[-1]),
    )  # fmt: skip


if __name__ == "__main__":
    report({"events": (rebalance, 0)}, "zipline")
