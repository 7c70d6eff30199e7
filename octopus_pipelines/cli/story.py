"""One order's story for the terminal: what allowed it, what became of it, what it was decided from.

Belongs here: tables and sentences. Does not: reading the records (resources/warehouse/order_story.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from octopus_pipelines.cli.house import marked

_FEATURES = 8
"""So many features are printed; ``--json`` has them all."""


def print_story(console: Console, story: Mapping[str, Any]) -> None:
    """Print the story that `octopus audit why --json` gives."""
    order, answer = story["order"], story["answer"]
    title = f"{order['side']} {order['quantity']} {order['instrument']} · {order['session']}"
    console.rule(Text(title, style="bold"))
    console.print(f"intent {order['intent_id']}, order {order['client_order_id']}, broker's {order['broker_order_id']}")
    console.print(
        f"batch {order['batch_id']} of account {order['account']}, {order['order_type']} at {order['reference_price']}"
    )
    if order["replaces"]:
        console.print(f"replaces {order['replaces']}: {order['asked_by']} asked, {order['asked_because']}")
    word = "[bold green]allowed:[/]" if answer["allowed"] else "[bold red]not allowed:[/]"
    console.print(marked(word), f"{answer['because']}; {'sent' if answer['sent'] else 'not sent'}")
    for attempt in story["attempts"]:
        _attempt(console, attempt)
    _verdicts(console, "Research, risk", story["research"]["risk"])
    _verdicts(console, "Research, compliance", story["research"]["compliance"])
    _course(console, story)
    if story["lineage"]["decision"] is not None:
        _lineage(console, story["lineage"])
    console.print("\nDo the records agree?", style="bold")
    for check in story["checks"]:
        mark = "[green]yes[/green]" if check["ok"] else "[red]NO[/red] "
        console.print(marked(f"  {mark}"), f"{check['name']}: {check['message']}")


def _attempt(console: Console, attempt: Mapping[str, Any]) -> None:
    snapshot = attempt["snapshot"]
    console.print(
        marked(f"\n[bold]Attempt {attempt['attempt']}[/bold]"),
        f"under fence {attempt['fence']}: the broker's snapshot of "
        f"{snapshot['taken_at']} had cash {snapshot['cash']}, {snapshot['held']} shares at {snapshot['price']}, "
        f"{len(snapshot['open_orders'])} open orders",
    )
    _verdicts(console, "Execution", attempt["verdicts"])


def _verdicts(console: Console, title: str, verdicts: Sequence[Mapping[str, Any]]) -> None:
    if not verdicts:
        return
    table = Table("rule", "outcome", "value", "limit", "reason", title=title, title_justify="left")
    for verdict in verdicts:
        limit = verdict.get("limit", verdict.get("limit_value"))
        table.add_row(
            f"{verdict['gate']} {verdict['rule']}" if "gate" in verdict else verdict["rule"], verdict["outcome"],
            _figure(verdict["value"]), _figure(limit), verdict["reason"],
        )  # fmt: skip
    console.print(table)


def _course(console: Console, story: Mapping[str, Any]) -> None:
    console.print("\nWhat became of it", style="bold")
    for child in story["children"]:
        told = child["state"] or child["status"]
        console.print(f"  {child['intent_id']}: {child['quantity']}, order {child['client_order_id']} {told}")
    for event in story["events"]:
        console.print(f"  {event['at']}  {event['from_state'] or ''} → {event['to_state']}, fence {event['fence']}")
    for fill in story["fills"]:
        rate = float(fill["rate"])
        converted = "" if rate == 1.0 else f" in the account's currency, converted at {rate:g}"
        console.print(f"  {fill['at']}  fill {fill['fill_id']}: {fill['quantity']} at {fill['price']}{converted}")
        if (revision := fill["revision"]) is not None:
            now = (
                f"corrected to {revision['quantity']} at {revision['price']}"
                if float(revision["quantity"])
                else "broken"
            )
            console.print(f"    {revision['at']}  {now} by the broker's revision: {revision['reason']}")
    entries = ", ".join(f"{entry['seq']} {entry['kind']}" for entry in story["audit"])
    console.print(f"  audit log: {entries or 'nothing'}")


def _lineage(console: Console, lineage: Mapping[str, Any]) -> None:
    decision, target, model, raw = (lineage[name] for name in ("decision", "target", "model", "raw"))
    decided = f"({decision['decision_id']}, as of {raw['known_by']})"
    console.print(marked("\n[bold]What it was decided from[/bold]"), decided)
    console.print(
        f"  target weight {_figure(target['weight'])}, alpha {_figure(target['alpha'])}" if target else
        "  the target weights were decided anew since: the plan's own are gone"
    )  # fmt: skip
    console.print(f"  signals: {_named(lineage['signals'])}")
    features = lineage["features"]
    first = dict(list(features.items())[:_FEATURES])
    console.print(f"  {len(features)} features: {_named(first)}{' …' if len(features) > _FEATURES else ''}")
    if model is None:
        console.print("  model: none, its signal abstained")
    else:
        trained = model["training_set"]
        review = model.get("review")
        run = f", MLflow run {review['mlflow_run_id']}" if review else ""
        console.print(f"  model: {model['label']} predicts {_figure(model['prediction'])}{run}")
        if trained is not None:
            console.print(
                f"  trained on {trained['rows']} rows, {trained['first_session']} to {trained['last_session']} "
                f"(training set {trained['fingerprint']})"
            )
    bars = raw["bars"]
    console.print(f"  {bars['rows']} bars of {raw['source']}, {' to '.join(bars['sessions'])}; the latest:")
    for bar in bars["latest"]:
        console.print(f"    {bar['session']} close {bar['close']}, stored in batch {bar['batch_id']}")
    console.print(f"  {raw['actions']['rows']} corporate actions, {len(raw['texts']['latest'])} latest scored texts")
    for batch in raw["batches"]:
        console.print(
            f"    batch {batch['batch_id']}: {batch['table_name']} from {batch['source']}, {batch['recorded_at']}"
        )


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_figure(value)}" for name, value in values.items()) or "none stored"


def _figure(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, int | float) else "" if value is None else str(value)
