"""`octopus backtest`: the published backtest, made anew or read back.

Belongs here: running the backtest's asset alone and printing its figures. Does not: simulating (octopus/backtest).
"""

from __future__ import annotations

from datetime import datetime

import click

from octopus.core.errors import MissingDataError
from octopus_pipelines.cli.house import new_console, open_database, open_house
from octopus_pipelines.cli.run import Progress, RunFailedError, wanted_sessions
from octopus_pipelines.cli.summary import print_backtest
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse


@click.command()
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Last session; default: the latest decided one.")
def backtest(as_of: datetime | None) -> None:
    """Simulate the configured strategy up to a session with what is in the warehouse, costs included."""
    import dagster as dg

    from assets import keys
    from octopus_pipelines import research
    from octopus_pipelines.jobs import DAILY
    from octopus_pipelines.launch import execute

    console = new_console()
    current = open_database()
    session = wanted_sessions(current, as_of, None, None)[0]
    if Warehouse(current.database_url, Role.RESEARCH).scalar("select to_regclass('marts.prices') is null"):
        raise MissingDataError("the warehouse holds no prices yet; `octopus run` brings the data that a backtest needs")
    open_house()
    progress = Progress(console)
    with dg.DagsterInstance.get() as instance:
        report = execute(
            research.defs.resolve_job_def(DAILY), instance, partition_key=session.isoformat(),
            selection=[keys.BACKTEST_RUNS], on_start=progress.started, on_end=progress.ended,
        )  # fmt: skip
    if report.first_error:
        raise RunFailedError(f"{report.first_error}; `octopus run` brings the data that a backtest needs")
    print_backtest(console, current, session)
    console.print(f"  tear sheet: {current.home / 'tearsheets' / f'{session}.html'}")
