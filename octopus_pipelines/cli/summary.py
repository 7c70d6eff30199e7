"""The summary after `octopus run`: what a person wants to read.

Belongs here: tables and sentences for the terminal. Does not: running anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from octopus.alternative_data.schema import TEXT_TABLES
from octopus.core.amounts import plain
from octopus_pipelines.cli.house import marked
from octopus_pipelines.overview import SCHEMAS, champion, reconciliation
from resources.settings import Settings
from resources.trading import anchor_file
from resources.warehouse.audit_log import verify
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse
from resources.warehouse.text_fetches import TextFetches

if TYPE_CHECKING:
    from octopus_pipelines.cli.run import Outcome

SLOWEST = 6
"""So many steps are named with their times."""
_MOST_BARRED = 8
"""So many instruments are named that could not be bought."""


def print_summary(console: Console, settings: Settings, outcome: Outcome) -> None:
    """Print everything about the last session of ``outcome``."""
    warehouse = Warehouse(settings.database_url, Role.OWNER)
    session = outcome.sessions[-1]
    console.rule(marked(f"[bold]Octopus · {session}"))
    _data(console, warehouse, settings)
    _unanswered(console, warehouse, session)
    _models(console, warehouse, settings)
    _backtest(console, warehouse, session)
    _decision(console, warehouse, settings, session)
    _orders(console, warehouse, settings, session)
    _account(console, warehouse, settings)
    _times(console, outcome)
    _changes(console, outcome)
    _next(console, outcome)


def _data(console: Console, warehouse: Warehouse, settings: Settings) -> None:
    console.print("\nData", style="bold")
    row = warehouse.rows(
        """
        select count(*) as rows, count(distinct instrument) as instruments, min(session) as first, max(session) as last
        from raw.bars where source = %s
        """,
        [settings.universe.market_data],
    )[0]
    texts = warehouse.rows(
        """
        select (select count(*) from raw.news) as news, (select count(*) from raw.social_posts) as posts,
               (select count(*) from raw.sentiment_scores) as scores, (select count(*) from raw.quarantine) as refused
        """
    )[0]
    console.print(
        f"  {row['rows']:,} bars of {row['instruments']} instruments, {row['first']} to {row['last']} "
        f"(source {settings.universe.market_data}); {texts['news']:,} news items, {texts['posts']:,} posts, "
        f"{texts['scores']:,} sentiment scores; {texts['refused']:,} records in quarantine"
    )
    findings = warehouse.rows(
        """
        select severity, kind, count(*) as n, string_agg(distinct instrument, ', ' order by instrument) as who,
               (array_agg(message order by session_from))[1] as example
        from ops.quality_findings where source = %s group by 1, 2
        order by array_position(array['severe', 'warn', 'info'], severity), n desc
        """,
        [settings.universe.market_data],
    )
    table = Table("severity", "finding", "count", "for example", box=None, padding=(0, 2))
    for found in findings:
        colour = {"severe": "red", "warn": "yellow"}.get(found["severity"], "dim")
        table.add_row(Text(found["severity"], style=colour), found["kind"], str(found["n"]), found["example"])
    console.print(table)


def _unanswered(console: Console, warehouse: Warehouse, session: date) -> None:
    """Sources of texts without which the session was decided."""
    for kind in TEXT_TABLES:
        asked = TextFetches(warehouse).of_session(kind, session)
        for problem in asked["problem"].drop_nulls():
            console.print(marked("  [yellow]decided without[/yellow]"), problem)


def _models(console: Console, warehouse: Warehouse, settings: Settings) -> None:
    console.print(marked("\n[bold]Models[/bold] (walk-forward, out of sample)"))
    reviews = warehouse.rows(
        """
        select distinct on (model) model, version, passed, scores, gates, as_of from models.reviews
        order by model, as_of desc, version desc
        """
    )
    table = Table(
        "model", "version", "rank IC", "t", "spread Sharpe", "deflated Sharpe", "gates", box=None, padding=(0, 2)
    )
    for review in reviews:
        scores: Mapping[str, Any] = review["scores"]
        failed = [gate["name"] for gate in review["gates"] if not gate["passed"]]
        verdict = Text("passed", "green") if review["passed"] else Text(f"failed: {', '.join(failed)}", "yellow")
        table.add_row(
            review["model"], str(review["version"]), *(_figure(scores.get(name)) for name in
            ("rank_ic", "t_stat", "spread_sharpe", "deflated_sharpe")), verdict,
        )  # fmt: skip
    console.print(table)
    chosen = champion(warehouse)
    if chosen is None:
        console.print("  no champion: no model passed every gate, so the model signal abstains (no gate is loosened)")
    else:
        console.print(f"  champion: {chosen['name']} version {chosen['version']}")


def print_backtest(console: Console, settings: Settings, session: date) -> None:
    """Print the figures of the backtest that was published last for ``session``."""
    _backtest(console, Warehouse(settings.database_url, Role.OWNER), session)


def _backtest(console: Console, warehouse: Warehouse, session: date) -> None:
    runs = warehouse.rows("select * from backtest.runs where as_of = %s order by created_at desc limit 1", [session])
    if not runs:
        return
    run, metrics = runs[0], runs[0]["metrics"]
    console.print(marked("\n[bold]Backtest[/bold]"), f"{run['first_session']} to {run['last_session']}, costs included")
    print_figures(console, metrics)


def print_figures(console: Console, metrics: Mapping[str, Any]) -> None:
    """The figures of one backtest beside its benchmark's, as `octopus.backtest.metrics.Metrics.record` gives them."""
    table = Table("", "strategy", "equal weight", box=None, padding=(0, 2))
    for name, label, form in (
        ("cagr", "CAGR", "{:.1%}"), ("volatility", "volatility p.a.", "{:.1%}"), ("sharpe", "Sharpe", "{:.2f}"),
        ("max_drawdown", "max drawdown", "{:.1%}"), ("hit_rate", "days up", "{:.1%}"),
    ):  # fmt: skip
        own, other = metrics["strategy"].get(name), metrics["benchmark"].get(name)
        table.add_row(label, _figure(own, form), _figure(other, form))
    console.print(table)
    console.print(
        f"  Sharpe between {_figure(metrics['sharpe_low'], '{:.2f}')} and {_figure(metrics['sharpe_high'], '{:.2f}')} "
        f"(95 %), deflated {_figure(metrics['deflated_sharpe'], '{:.2f}')}, "
        f"turnover {_figure(metrics['turnover_annual'], '{:.1f}')}× a year, "
        f"costs {_figure(metrics['cost_drag'], '{:.2%}')} a year, {metrics['trades']:,} trades"
    )
    for warning in metrics.get("warnings", ()):
        console.print(f"  {warning}", style="yellow")


def _decision(console: Console, warehouse: Warehouse, settings: Settings, session: date) -> None:
    weights = warehouse.rows(
        "select instrument, weight from portfolio.target_weights where session = %s and weight <> 0 "
        "order by weight desc",
        [session],
    )
    console.print(marked(f"\n[bold]Target weights[/bold] {session}"))
    console.print("  " + (", ".join(f"{row['instrument']} {row['weight']:.1%}" for row in weights) or "all cash"))
    stored = warehouse.rows(
        "select certificate from portfolio.decisions where decision_id = "
        "(select decision_id from portfolio.target_weights where session = %s limit 1)",
        [session],
    )
    _reservations(console, stored[0]["certificate"] if stored else {})
    for label, table in (("risk", "risk.limit_report"), ("compliance", "compliance.pretrade_report")):
        rows = _verdicts(warehouse, table, settings.account, session)
        _gate(console, label, rows)


def _reservations(console: Console, certificate: Mapping[str, Any]) -> None:
    """That the optimiser fell back, and which members it could not have bought."""
    if certificate.get("status") == "fallback":
        console.print(marked("  [yellow]the optimiser fell back to[/yellow]"), str(certificate["reason"]))
    barred = certificate.get("unbuyable", {})
    for name, why in list(barred.items())[:_MOST_BARRED]:
        console.print("  may not be bought:", f"{name}: {why}", style="yellow")
    if len(barred) > _MOST_BARRED:
        console.print(f"  and {len(barred) - _MOST_BARRED} more: see the metadata of portfolio/target_weights")


def _verdicts(warehouse: Warehouse, table: str, account: str, session: date) -> list[dict[str, Any]]:
    statements = {
        "risk.limit_report": """
            select v.* from risk.limit_report v join portfolio.batches b using (batch_id)
            where b.account = %s and b.session = %s and b.superseded_by is null order by seq""",
        "compliance.pretrade_report": """
            select v.* from compliance.pretrade_report v join portfolio.batches b using (batch_id)
            where b.account = %s and b.session = %s and b.superseded_by is null order by seq""",
    }
    return warehouse.rows(statements[table], [account, session])


def _gate(console: Console, label: str, rows: Sequence[Mapping[str, Any]]) -> None:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["outcome"]] = counts.get(row["outcome"], 0) + 1
    said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing to judge"
    console.print(f"  {label}: {said}")
    for row in rows:
        if row["outcome"] in ("deny", "warn"):
            console.print(marked(f"    [yellow]{row['outcome']}[/yellow]"), f"{row['rule']}: {row['reason']}")
    off = sorted({row["rule"] for row in rows if row["outcome"] == "off"})
    if off:
        console.print(f"    off on this data: {', '.join(off)}", style="dim")


def _orders(console: Console, warehouse: Warehouse, settings: Settings, session: date) -> None:
    rows = warehouse.rows(
        """
        select i.instrument, i.side, i.quantity, i.reference_price, o.state, o.filled_quantity,
               sum(f.quantity * f.price) / nullif(sum(f.quantity), 0) as price, coalesce(sum(f.fees), 0) as fees
        from execution.order_intents i
        join execution.orders o using (intent_id)
        left join execution.current_fills f on f.client_order_id = o.client_order_id
        where i.account = %s and i.session = %s
        group by 1, 2, 3, 4, 5, 6 order by i.side desc, i.instrument
        """,
        [settings.account, session],
    )
    console.print(marked(f"\n[bold]Orders[/bold] decided {session}, executed in the next session"))
    if not rows:
        console.print("  none")
        return
    table = Table("side", "instrument", "shares", "state", "price", "fees", box=None, padding=(0, 2))
    for row in rows:
        price = "" if row["price"] is None else f"{row['price']:,.4f}"
        table.add_row(
            row["side"], row["instrument"], plain(row["quantity"], ","), row["state"], price, f"{row['fees']:,.2f}"
        )
    console.print(table)


def _account(console: Console, warehouse: Warehouse, settings: Settings) -> None:
    account = settings.account
    navs = warehouse.rows("select * from execution.nav where account = %s order by session desc limit 1", [account])
    if not navs:
        return
    nav = navs[0]
    held = warehouse.rows(
        "select count(*) as n from execution.positions where account = %s and session = %s and quantity <> 0",
        [account, nav["session"]],
    )[0]["n"]
    console.print(
        marked("\n[bold]Account[/bold]"),
        f"{account} on {nav['session']}: NAV {nav['closing']:,.2f}, cash {nav['cash']:,.2f}, "
        f"{held} positions; the day: price {nav['price_pnl']:+,.2f}, fees {-nav['fees']:+,.2f}, "
        f"dividends {nav['dividends']:+,.2f}, flows {nav['flows']:+,.2f}",
    )
    compared = reconciliation(warehouse, account)
    if compared is not None:
        verdict = "[green]our book and the broker's agree[/green]" if compared["ok"] else (
            f"[red]{compared['breaks']} breaks: see execution/reconciliation in Dagster[/red]"
        )  # fmt: skip
        console.print(marked(f"  reconciliation {compared['session']}: {verdict}"))
    chain = verify(settings.database_url, anchor_file(settings))
    whole = "[green]whole[/green]" if chain.ok else "[red]broken: run `octopus audit verify`[/red]"
    console.print(marked(f"  audit log: {chain.entries} entries, {whole}"))


def _times(console: Console, outcome: Outcome) -> None:
    steps = sorted((step for report in outcome.reports for step in report.steps), key=lambda step: -step.seconds)
    slow = ", ".join(f"{step.name.replace('__', '.')} {step.seconds:.1f} s" for step in steps[:SLOWEST])
    console.print(marked("\n[bold]Time[/bold]"), f"{outcome.seconds:.1f} s in all; {slow}")


def _changes(console: Console, outcome: Outcome) -> None:
    """The changed tables in the order of the pipeline, a line for each schema."""
    if not outcome.changed:
        nothing = "nothing: everything was there already (no row, no model version, no order)"
        console.print(marked(f"[bold]Changed[/bold] {nothing}"))
    else:
        count = len(outcome.changed)
        console.print(marked(f"[bold]Changed[/bold] rows of {count} table{'s' if count > 1 else ''}"))
        table = Table(box=None, padding=(0, 2), show_header=False)
        for schema in SCHEMAS:
            names = [name.partition(".")[2] for name in outcome.changed if name.startswith(f"{schema}.")]
            if names:
                table.add_row(schema, ", ".join(names))
        console.print(table)
    for reason in outcome.skipped:
        console.print(f"  no orders now: {reason}", style="dim")


def _next(console: Console, outcome: Outcome) -> None:
    console.print("\nNext", style="bold")
    if outcome.failure:
        console.print(f"  {outcome.failure}", style="red")
    for line in (
        ".venv/bin/octopus up        Dagster and MLflow in the browser: lineage, runs, model review",
        ".venv/bin/octopus status    what stands in the warehouse (--json for machines)",
        "config/*.yaml               universe, strategy, risk, compliance; then run again",
        "README.md                   real data, and which page tells what",
    ):
        console.print(f"  {line}")


def _figure(value: object, form: str = "{:.3f}") -> str:
    return form.format(value) if isinstance(value, int | float) else "n/a"
