"""`octopus sweep`: one strategy over many parameter sets, never shown without what luck would have given.

Belongs here: options, progress and the final table. Does not: drawing and running sets (octopus/backtest/sweep.py,
assets/studies.py).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from octopus.core.errors import ConfigError
from octopus_pipelines.cli.backtest import DAY, assignments, day_of, require_prices, settings_of
from octopus_pipelines.cli.house import new_console, open_database
from octopus_pipelines.cli.run import wanted_sessions

if TYPE_CHECKING:
    from octopus.backtest.sweep import Range
    from octopus.core.trials import Trial

SHOWN = 10


@click.command()
@click.argument("strategy")
@click.option("--grid", multiple=True, metavar="KEY=A,B,C", help="Values of a setting; every combination is run.")
@click.option("--space", multiple=True, metavar="KEY=LOW:HIGH[:log]", help="Range of a setting, with --random.")
@click.option("--random", "count", type=click.IntRange(1), help="So many sets drawn from the ranges, always the same.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Another setting of every set.")
@click.option("--from", "first", type=DAY, help="First session that is decided.")
@click.option("--to", "last", type=DAY, help="Last session that is decided.")
@click.option("--as-of", type=DAY, help="Known as of this session; default: the latest decided one.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="all cores")
@click.option("--json", "as_json", is_flag=True, help="Every set with its figures as JSON.")
def sweep(
    strategy: str, grid: tuple[str, ...], space: tuple[str, ...], count: int | None, changes: tuple[str, ...],
    first: datetime | None, last: datetime | None, as_of: datetime | None, workers: int, *, as_json: bool,
) -> None:  # fmt: skip
    """Simulate a STRATEGY with every set of a grid, or with sets drawn at random.

    Each set is put on record as it ends: the same command goes on where it was interrupted, and no set is forgotten.
    """
    from assets import studies

    sets = _sets(grid, space, count)
    current = open_database()
    session = wanted_sessions(current, as_of, None, None)[0]
    require_prices(current)
    fixed = settings_of(changes)
    chosen = [studies.study(current, strategy, {**fixed, **one}, day_of(first), day_of(last)) for one in sets]
    read = studies.read_inputs(current, session, with_model=any(map(studies.speaks, chosen)))
    found: dict[int, Trial] = dict(studies.known_studies(current, chosen, read))
    console = new_console()
    with _progress(console, quiet=as_json) as progress:
        task = progress.add_task(strategy, total=len(chosen), completed=len(found))
        for place, trial in studies.run_many(current, chosen, read, workers, found):
            found[place] = trial
            progress.advance(task)
    ranked = sorted(found.items(), key=lambda item: (math.isnan(item[1].sharpe), -item[1].sharpe))
    rows = [{"parameters": sets[place], "sharpe_annual": _annual(trial.sharpe, current.sessions.per_year),
             "trial": trial.trial_id, "sessions": len(trial.returns)} for place, trial in ranked]  # fmt: skip
    worth = studies.deflation(current, ranked[0][1])
    verdict = {
        "deflated_sharpe": _plain(worth.deflated_sharpe), "pbo": _plain(worth.pbo), "trials": worth.raw,
        "trials_clustered": worth.clustered,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps({"sets": rows, **verdict}, indent=1, default=str))
        return
    _print(console, strategy, rows, verdict)


def _sets(grid: tuple[str, ...], space: tuple[str, ...], count: int | None) -> list[dict[str, Any]]:
    """The parameter sets that the options name.

    Raises:
        ConfigError: no set is named, or both ways at once.
    """
    from assets.studies import parsed
    from octopus.backtest import sweep as sweeps

    if bool(grid) == bool(count) or bool(space) != bool(count):
        raise ConfigError(
            where="octopus sweep", field="--grid/--random", value=None,
            remedy="give --grid KEY=A,B,C, or --random N with --space KEY=LOW:HIGH",
        )  # fmt: skip
    if grid:
        texts = assignments("--grid", grid, "lookback_sessions=63,126")
        named = {name: [parsed(one) for one in values.split(",")] for name, values in texts.items()}
        return sweeps.grid(named)
    ranges = assignments("--space", space, "lookback_sessions=21:252")
    return sweeps.draws({name: _range(name, text) for name, text in ranges.items()}, count or 0)


def _range(name: str, text: str) -> Range:
    from octopus.backtest.sweep import Range

    parts = text.split(":")
    try:
        low, high = (int(part) if part.lstrip("-").isdigit() else float(part) for part in parts[:2])
    except ValueError:
        low, high = math.nan, math.nan
    if len(parts) not in (2, 3) or math.isnan(low) or (len(parts) == 3 and parts[2] != "log"):
        raise ConfigError(where="--space", field=name, value=text, remedy="write it like 21:252 or 0.1:10:log")
    return Range(low, high, len(parts) == 3)


def _annual(per_session: float, sessions_per_year: int) -> float | None:
    return None if math.isnan(per_session) else per_session * math.sqrt(sessions_per_year)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _progress(console: Console, *, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=quiet)


def _print(console: Console, strategy: str, rows: list[dict[str, Any]], verdict: Mapping[str, Any]) -> None:
    shown = f"{len(rows)} parameter sets, the best {min(SHOWN, len(rows))} of them"
    console.print(Text(f"\n{strategy}:", style="bold"), shown)
    names = list(rows[0]["parameters"])
    table = Table(*names, "Sharpe, net", box=None, padding=(0, 2))
    for row in rows[:SHOWN]:
        ratio = row["sharpe_annual"]
        values = (row["parameters"][name] for name in names)
        cells = (f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        table.add_row(*cells, "-" if ratio is None else f"{ratio:.2f}")
    console.print(table)
    deflated, pbo = verdict["deflated_sharpe"], verdict["pbo"]
    told = "not known" if deflated is None else f"{deflated:.2f}"
    overfit = "too few trials for a probability of overfitting" if pbo is None else f"overfitting probability {pbo:.0%}"
    console.print(
        f"  the best one's deflated Sharpe ratio is {told} among {verdict['trials']} trials on these days "
        f"({verdict['trials_clustered']} different); {overfit}"
    )
    if deflated is None or deflated < 0.95 or (pbo or 0) > 0.5:
        console.print("  That is what luck may give: do not choose it for its place in this table.", style="yellow")
    console.print("  every set is on record for good: `octopus backtest` and the next sweep count them")
