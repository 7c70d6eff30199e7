"""`octopus backtest`: the published backtest, or a strategy with settings of its own.

Belongs here: options and printing. Does not: simulating (octopus/backtest), what a study is (assets/studies.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from octopus.core.errors import ConfigError, MissingDataError
from octopus_pipelines.cli.house import new_console, open_database, open_house
from octopus_pipelines.cli.run import Progress, RunFailedError, wanted_sessions
from octopus_pipelines.cli.summary import print_backtest, print_figures
from resources.settings import Settings
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse

if TYPE_CHECKING:
    from assets.studies import Study

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("strategy", required=False)
@click.option("--as-of", type=DAY, help="Known as of this session; default: the latest decided one.")
@click.option("--from", "first", type=DAY, help="First session that is decided.")
@click.option("--to", "last", type=DAY, help="Last session that is decided.")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Another setting, e.g. lookback_sessions=126."
)
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
def backtest(
    strategy: str | None, as_of: datetime | None, first: datetime | None, last: datetime | None,
    changes: tuple[str, ...], *, as_json: bool,
) -> None:  # fmt: skip
    """Simulate a STRATEGY (ensemble, or one signal alone) with costs, and put it on record as a trial.

    Without any of them: the published backtest of the configured ensemble, made anew.
    """
    current = open_database()
    session = wanted_sessions(current, as_of, None, None)[0]
    require_prices(current)
    if strategy is None and not (first or last or changes or as_json):
        _published(current, session)
        return
    from assets import studies

    chosen = studies.study(current, strategy or studies.ENSEMBLE, settings_of(changes), day_of(first), day_of(last))
    read = studies.read_inputs(current, session, with_model=studies.speaks(chosen))
    result, benchmark, metrics = studies.measured(current, chosen, read)
    page, warnings = studies.write_page(current, chosen, read, result, benchmark, metrics)
    figures = {**metrics.record(), "strategy_name": chosen.strategy, "changed": dict(chosen.changed),
               "warnings": warnings, "page": str(page)}  # fmt: skip
    if as_json:
        click.echo(json.dumps(figures, indent=1, sort_keys=True, default=str))
        return
    _print(new_console(), chosen, figures)


def require_prices(current: Settings) -> None:
    """There is something to simulate on.

    Raises:
        MissingDataError: the warehouse was never filled.
    """
    if Warehouse(current.database_url, Role.RESEARCH).scalar("select to_regclass('marts.prices') is null"):
        raise MissingDataError("the warehouse holds no prices yet; `octopus run` brings the data that a backtest needs")


def day_of(given: datetime | None) -> date | None:
    """The date of an option."""
    return given.date() if given is not None else None


def assignments(option: str, given: Sequence[str], example: str) -> dict[str, str]:
    """``KEY=VALUE`` texts as a mapping.

    Raises:
        ConfigError: one has no key or no value.
    """
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        if not name or not value:
            raise ConfigError(where=option, field="KEY=VALUE", value=text, remedy=f"write it like {example}")
        found[name.strip()] = value
    return found


def settings_of(changes: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` says, each value as YAML reads it; errors as in `assignments`."""
    from assets.studies import parsed

    return {name: parsed(value) for name, value in assignments("--set", changes, "lookback_sessions=126").items()}


def _published(current: Settings, session: date) -> None:
    """The asset, materialised alone."""
    from assets import keys
    from octopus_pipelines import research
    from octopus_pipelines.jobs import DAILY
    from octopus_pipelines.launch import execute
    from resources.runtime import dagster_home

    console = new_console()
    open_house()
    progress = Progress(console)
    with dagster_home.opened() as instance:
        report = execute(
            research.defs.resolve_job_def(DAILY), instance, partition_key=session.isoformat(),
            selection=[keys.BACKTEST_RUNS], on_start=progress.started, on_end=progress.ended,
        )  # fmt: skip
    if report.first_error:
        raise RunFailedError(f"{report.first_error}; `octopus run` brings the data that a backtest needs")
    print_backtest(console, current, session)
    console.print(f"  tear sheet: {current.home / 'tearsheets' / f'{session}.html'}")


def _print(console: Console, chosen: Study, figures: dict[str, Any]) -> None:
    changed = ", ".join(f"{name} = {value}" for name, value in chosen.changed.items())
    days = f"{figures['first']} to {figures['last']}, costs included"
    console.print(Text(f"\n{chosen.strategy}", style="bold"), days)
    if changed:
        console.print(f"  with {changed}")
    print_figures(console, figures)
    console.print(
        f"  among {figures['trials']} trials on these days, {figures['trials_clustered']} of them different; "
        "they are kept for good"
    )
    console.print(f"  tear sheet: {figures['page']}")
