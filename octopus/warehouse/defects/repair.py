"""Repairs as data, and applying one to bars and actions.

Belongs here: the actions a finding may propose, and what each does. Does not: deciding whether to apply one: a person
or a policy does, and the repaired rows are then a source of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from octopus.core.errors import MissingDataError, OctopusError
from octopus.warehouse.defects.tape import PRICES, Basis
from octopus.warehouse.quality import Repair

Frames = tuple[pl.DataFrame, pl.DataFrame]


class UnknownRepairError(OctopusError):
    """A repair whose action this version does not know."""


def multiply(fields: Sequence[str], factor: float, start: str | None = None, end: str | None = None) -> Repair:
    """Multiply ``fields`` from session ``start`` to ``end``, both inclusive; None: the first, the last."""
    return {"action": "multiply", "fields": list(fields), "factor": factor, "from": start, "to": end}


def put(session: str, values: Mapping[str, float | None]) -> Repair:
    """Set fields of one bar; None: no value."""
    return {"action": "set", "session": session, "values": dict(values)}


def clear(fields: Sequence[str], start: str, end: str) -> Repair:
    """Take the values of ``fields`` away: a zero volume is no volume."""
    return {"action": "clear", "fields": list(fields), "from": start, "to": end}


def exchange(session: str, fields: tuple[str, str]) -> Repair:
    """Exchange two fields of one bar."""
    return {"action": "exchange", "session": session, "fields": list(fields)}


def drop(start: str, end: str) -> Repair:
    """Leave out the bars from ``start`` to ``end``, both inclusive."""
    return {"action": "drop", "from": start, "to": end}


def add_action(kind: str, session: str, value: float) -> Repair:
    """Add a split (``add_split``) or a dividend (``add_dividend``)."""
    return {"action": f"add_{kind}", "session": session, "value": value}


def remove_action(kind: str, session: str, value: float) -> Repair:
    return {"action": "remove_action", "kind": kind, "session": session, "value": value}


def change_action(kind: str, session: str, value: float, changed: float) -> Repair:
    """Give an action of ``value`` another value."""
    return {"action": "change_action", "kind": kind, "session": session, "value": value, "to_value": changed}


def move_action(kind: str, session: str, value: float, moved: str) -> Repair:
    """Give an action another session."""
    return {"action": "move_action", "kind": kind, "session": session, "value": value, "to_session": moved}


def unadjust(end: str, basis: Basis) -> Repair:
    """Up to session ``end`` the prices are adjusted ones: divide them by the factor of the actions since."""
    return {"action": "unadjust", "to": end, "basis": basis}


def several(*steps: Repair) -> Repair:
    """Steps in this order."""
    return {"action": "several", "steps": [dict(step) for step in steps]}


def apply_repair(frame: pl.DataFrame, actions: pl.DataFrame, repair: Repair) -> Frames:
    """``frame`` and ``actions`` with one repair applied; other instruments, and the rows' order, stay.

    Args:
        frame: bars as `tape.tape_of` takes them. actions: splits and dividends.
        repair: of a `Finding`, with its ``instrument``.

    Raises:
        UnknownRepairError: the action is unknown. MissingDataError: the bar or action to change is not there.
    """
    name = str(repair["action"])
    if name == "several":
        steps: Any = repair["steps"]
        for step in steps:
            frame, actions = apply_repair(frame, actions, {**step, "instrument": repair["instrument"]})
        return frame, actions
    if name not in _ACTIONS:
        raise UnknownRepairError(f"repair.action = {name!r}: choose one of {', '.join(sorted(_ACTIONS))}")
    return _ACTIONS[name](frame, actions, dict(repair))


def _between(repair: Mapping[str, Any]) -> pl.Expr:
    rows: pl.Expr = pl.col("instrument") == repair["instrument"]
    if repair.get("from"):
        rows &= pl.col("session") >= date.fromisoformat(repair["from"])
    if repair.get("to"):
        rows &= pl.col("session") <= date.fromisoformat(repair["to"])
    return rows


def _multiply(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    rows = _between(repair)
    changed = [
        pl.when(rows).then(pl.col(name) * repair["factor"]).otherwise(pl.col(name)).alias(name)
        for name in repair["fields"]
        if name in frame.columns
    ]
    return frame.with_columns(changed), actions


def _one(repair: Mapping[str, Any]) -> pl.Expr:
    rows: pl.Expr = pl.col("instrument") == repair["instrument"]
    return rows & (pl.col("session") == date.fromisoformat(repair["session"]))


def _set(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    rows = _one(repair)
    changed = [
        pl.when(rows).then(pl.lit(value, dtype=pl.Float64)).otherwise(pl.col(name)).alias(name)
        for name, value in repair["values"].items()
        if name in frame.columns
    ]
    return frame.with_columns(changed), actions


def _clear(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    rows = _between(repair)
    return frame.with_columns(
        [pl.when(rows).then(None).otherwise(pl.col(name)).alias(name) for name in repair["fields"]]
    ), actions


def _exchange(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    rows, (left, right) = _one(repair), repair["fields"]
    return frame.with_columns(
        pl.when(rows).then(pl.col(right)).otherwise(pl.col(left)).alias(left),
        pl.when(rows).then(pl.col(left)).otherwise(pl.col(right)).alias(right),
    ), actions


def _drop(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    return frame.filter(~_between(repair)), actions


def _add(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    row = pl.DataFrame(
        {
            "instrument": [repair["instrument"]],
            "session": [date.fromisoformat(repair["session"])],
            "kind": [repair["action"].removeprefix("add_")],
            "value": [repair["value"]],
        }
    )
    return frame, pl.concat([actions, row], how="diagonal_relaxed")


def _named(actions: pl.DataFrame, repair: Mapping[str, Any]) -> pl.Expr:
    """The first action that the repair names: of two alike only one is meant."""
    alike = _one(repair) & (pl.col("kind") == repair["kind"]) & ((pl.col("value") / repair["value"] - 1).abs() < 1e-9)
    first: pl.Expr = alike & (alike.cast(pl.Int64).cum_sum() == 1)
    if not actions.select(first.any()).item():
        raise MissingDataError(
            f"no {repair['kind']} of {repair['value']:g} on {repair['session']} for {repair['instrument']}: "
            "was the repair made for these actions?"
        )
    return first


def _remove(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    return frame, actions.filter(~_named(actions, repair))


def _change(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    value = pl.when(_named(actions, repair)).then(pl.lit(repair["to_value"], dtype=pl.Float64))
    return frame, actions.with_columns(value.otherwise(pl.col("value")).alias("value"))


def _move(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    day = pl.when(_named(actions, repair)).then(pl.lit(date.fromisoformat(repair["to_session"])))
    return frame, actions.with_columns(day.otherwise(pl.col("session")).alias("session"))


def _unadjust(frame: pl.DataFrame, actions: pl.DataFrame, repair: Mapping[str, Any]) -> Frames:
    """Backwards from the first sound bar: ``f before = (f / split) / (1 + f * cash / adjusted close before)``.

    That is ``f before = f / split * (1 - cash / (price before / split))`` with ``price = adjusted close / f``, solved
    for ``f before``.
    """
    own = frame.filter(pl.col("instrument") == repair["instrument"]).sort("session")
    days = own["session"].to_numpy().astype("datetime64[D]")
    adjusted, close = own["adj_close"].to_numpy(), own["close"].to_numpy()
    sound = int(np.searchsorted(days, np.datetime64(repair["to"]), side="right"))
    acts = actions.filter(pl.col("instrument") == repair["instrument"])
    rows = np.searchsorted(days, acts["session"].to_numpy().astype("datetime64[D]"))
    factor = np.ones(len(days))
    current, upper = float(adjusted[sound] / close[sound]), sound
    for row in sorted(set(rows[(rows > 0) & (rows <= sound)].tolist()), reverse=True):
        factor[row:upper] = current
        here = acts.filter(pl.Series(rows == row))
        split = (
            float(here.filter(pl.col("kind") == "split")["value"].product()) if repair["basis"] == "printed" else 1.0
        )
        cash = float(here.filter(pl.col("kind") == "dividend")["value"].sum())
        current, upper = current / split / (1 + current * cash / float(adjusted[row - 1])), row
    factor[:upper] = current
    factor[sound:] = 1.0
    # The bars stand at the adjusted close; what an untouched bar would be is that over the factor.
    scale = pl.DataFrame(
        {
            "instrument": own["instrument"],
            "session": own["session"],
            "_scale": np.where(factor == 1.0, 1.0, adjusted / close / factor),
        }
    )
    changed = frame.join(scale, on=["instrument", "session"], how="left", maintain_order="left")
    return changed.with_columns([(pl.col(name) * pl.col("_scale").fill_null(1.0)).alias(name) for name in PRICES]).drop(
        "_scale"
    ), actions


_ACTIONS: dict[str, Callable[[pl.DataFrame, pl.DataFrame, Mapping[str, Any]], Frames]] = {
    "multiply": _multiply, "set": _set, "clear": _clear, "exchange": _exchange, "drop": _drop,
    "add_split": _add, "add_dividend": _add,
    "remove_action": _remove, "change_action": _change, "move_action": _move, "unadjust": _unadjust,
}  # fmt: skip
