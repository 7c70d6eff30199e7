"""The partitions, one for each session of the universe's exchange, and whatever else is fixed when a location loads.

Belongs here: partition definitions, and the configuration that definitions need. Does not: dates of single runs.

A definition is fixed when its code location loads, so the exchange and the sources are read then, once, from
config/universe.yaml, and the sweeps from config/strategies.yaml: after a change of one of them the locations are loaded
again (`octopus up`, or Reload in Dagster).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np

from octopus.backtest.named_sweeps import SweepConfig
from octopus.core.sessions import FIRST_SESSION, LAST_DAY, Sessions
from resources.settings import configured_exchange, configured_sources, configured_sweeps

KEY_FORMAT = "%Y-%m-%d"
CLOCK = Sessions(configured_exchange(os.environ))
"""The calendar that everything is partitioned and scheduled by."""
SOURCES = configured_sources(os.environ)
"""Who is asked: there is an asset for each source of texts, and each waits in its vendor's pool."""


def partitions_of(clock: Sessions) -> dg.TimeWindowPartitionsDefinition:
    """A partition for each session: the exchange's local days, less those on which it is closed."""
    return dg.TimeWindowPartitionsDefinition(
        start=FIRST_SESSION,
        fmt=KEY_FORMAT,
        timezone=clock.timezone,
        cron_schedule=f"0 0 * * {'*' if clock.on_weekends else '1-5'}",
        exclusions=_closed_days(clock, FIRST_SESSION, LAST_DAY) or None,
        # Without the offset Friday's key would only exist once Monday's window opens.
        end_offset=1,
    )


def _closed_days(clock: Sessions, first: str, last: str) -> list[datetime]:
    """Days that the exchange could trade on and does not, at midnight of its zone."""
    days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
    days = days if clock.on_weekends else days[np.is_busday(days)]
    zone = ZoneInfo(clock.timezone)
    closed = np.setdiff1d(days, clock.between(date.fromisoformat(first), date.fromisoformat(last)))
    return [datetime.fromisoformat(str(day)).replace(tzinfo=zone) for day in closed]


SESSIONS = partitions_of(CLOCK)
"""Every session since the first recorded one; raw and decision assets are partitioned by it."""


FOLDS = dg.StaticPartitionsDefinition([f"{number:03d}" for number in range(128)])
"""The steps of a walk-forward, so that a backfill spreads them over whatever executes runs; a walk may have fewer."""


def sweep_partitions(sweeps: Mapping[str, SweepConfig]) -> dg.StaticPartitionsDefinition:
    """A partition for each chunk of each sweep."""
    return dg.StaticPartitionsDefinition(
        [f"{name}.{number:04d}" for name, sweep in sweeps.items() for number in range(sweep.chunks)]
    )


SWEEPS = sweep_partitions(configured_sweeps(os.environ))
"""The chunks of each sweep of config/strategies.yaml, read when a code location loads."""


def sweep_chunk(key: str) -> tuple[str, int]:
    """The name of a sweep and the number of its chunk."""
    name, number = key.rsplit(".", 1)
    return name, int(number)


def session_of(context: dg.AssetExecutionContext) -> date:
    """The session of a single-partition run."""
    return date.fromisoformat(context.partition_key)


def session_range(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """First and last session of a run over a range of partitions (a backfill in one run)."""
    window = context.partition_time_window
    last = window.end - timedelta(days=1)
    keys = context.partition_keys
    return date.fromisoformat(keys[0]), date.fromisoformat(keys[-1]) if keys else last.date()
