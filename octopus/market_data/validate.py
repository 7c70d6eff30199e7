"""Which instruments, bars, intraday bars, adjusted closes and corporate actions are refused, and why.

Belongs here: rules on single records that make one unusable. Does not: suspicions about series, such as outliers or
stale prices (octopus/warehouse/quality.py): those keep the record and report a finding.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from octopus.core.rejects import Reject, Rule, split_rejects
from octopus.core.sessions import Sessions
from octopus.market_data.schema import ACTION_KINDS, ASSET_CLASSES, DETAILED_KINDS, UTC_INSTANT

RANGE_TOLERANCE = 1e-4
"""How far, as a fraction of its price plus one unit, an open or close may lie outside the range: vendors round."""

MAX_SPLIT_RATIO = 1000.0
"""A split beyond 1000 new for one old, or one new for 1000 old, is a vendor's error until a person says otherwise."""


def validate_bars(
    frame: pl.DataFrame, sessions: Sessions, now: datetime | None = None
) -> tuple[pl.DataFrame, list[Reject]]:
    """Split bars into those that may be stored and those that go to quarantine.

    Args:
        frame: `schema.BARS_SCHEMA`, any order; ``ts`` is null where ``session`` is no session (`stamps.stamp_bars`).
        sessions: of the exchange the bars belong to.
        now: instant of the fetch; a bar of a session that has not closed by then is refused. None: not judged.

    Returns:
        The good rows in the order given, and one `Reject` with its first reason for each other row. Of rows with the
        same key the first good one is kept.
    """
    rules = [
        *_day_rules("session date", sessions),
        *_time_rules(now),
        *_price_rules("day"),
        _volume_rule(),
    ]
    return split_rejects(frame, rules, key=("source", "instrument", "ts"), table="bars")


def validate_intraday(
    frame: pl.DataFrame, sessions: Sessions, now: datetime | None = None
) -> tuple[pl.DataFrame, list[Reject]]:
    """Split intraday bars into good rows and rejects, like `validate_bars`.

    Args:
        frame: `schema.INTRADAY_SCHEMA` and ``on_grid``: whether the bar begins with an interval of its session;
            ``session`` is null where ``ts`` is in none.
        now: instant of the fetch; a bar that begins later is refused. None: not judged.
    """
    instant, vwap = pl.col("ts").cast(pl.String), pl.col("vwap")
    rules = [
        Rule(pl.col("instrument").is_null() | (pl.col("instrument") == ""), "the instrument is missing"),
        Rule(pl.col("ts").is_null(), "the beginning of the bar is missing"),
        Rule(pl.col("session").is_null(), pl.format(f"{{}} is in no session of {sessions.exchange}", instant)),
        Rule(~pl.col("on_grid"), pl.format("{} is no beginning of an interval", instant)),
        *_price_rules("bar"),
        _volume_rule(),
        Rule(vwap.is_infinite() | (vwap <= 0), pl.format("vwap {} is not a positive number", vwap)),
    ]
    if now is not None:
        rules.append(Rule(pl.col("ts") > _moment(now), "the bar had not begun when it was fetched"))
    return split_rejects(frame, rules, key=("source", "instrument", "ts", "interval_minutes"), table="intraday_bars")


def validate_adjusted(
    frame: pl.DataFrame, sessions: Sessions, now: datetime | None = None
) -> tuple[pl.DataFrame, list[Reject]]:
    """Split vendors' adjusted closes (`schema.ADJUSTED_SCHEMA`) into good rows and rejects, like `validate_bars`."""
    price = pl.col("adj_close")
    rules = [
        *_day_rules("session date", sessions),
        *_time_rules(now),
        Rule(price.is_null() | price.is_nan(), "adj_close is missing"),
        Rule(price.is_infinite() | (price <= 0), pl.format("adj_close {} is not a positive number", price)),
    ]
    return split_rejects(frame, rules, key=("source", "instrument", "ts"), table="adjusted_closes")


def validate_actions(frame: pl.DataFrame, sessions: Sessions) -> tuple[pl.DataFrame, list[Reject]]:
    """Split corporate actions (`schema.ACTIONS_SCHEMA`) into good rows and rejects, like `validate_bars`.

    An action may be known before its ex-date: it is announced. Its reads ask for both.
    """
    value, kind, detail = pl.col("value"), pl.col("kind"), pl.col("detail")
    shown = value.cast(pl.String).fill_null("nothing")
    rules = [
        *_day_rules("ex-date", sessions),
        Rule(pl.col("known_at").is_null(), "when it became known is missing"),
        Rule(kind.is_null(), "the kind is missing"),
        Rule(~kind.is_in(ACTION_KINDS), pl.format(f"kind {{}} is none of {', '.join(ACTION_KINDS)}", kind)),
        Rule(
            value.is_null() | ~value.is_finite() | (value < 0) | ((value == 0) & (kind != "delisting")),
            pl.format("{} of {} is not a positive number", kind, shown),
        ),
        Rule(
            (kind == "split") & ~value.is_between(1 / MAX_SPLIT_RATIO, MAX_SPLIT_RATIO),
            pl.format("split ratio {} is beyond 1:1000 or 1000:1", value),
        ),
        Rule(
            kind.is_in(DETAILED_KINDS) & (detail.is_null() | (detail == "")), pl.format("{} names no new symbol", kind)
        ),
        Rule((kind == "symbol_change") & (detail == pl.col("instrument")), pl.format("{} to the same symbol", kind)),
        Rule((kind == "symbol_change") & (value != 1), pl.format("symbol_change of {} is not 1", value)),
    ]
    return split_rejects(frame, rules, key=("source", "instrument", "ts", "kind"), table="corporate_actions")


def validate_instruments(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Reject]]:
    """Split instruments (`schema.INSTRUMENTS_SCHEMA`) into good rows and rejects, like `validate_bars`."""
    rules = [Rule(pl.col("instrument").is_null() | (pl.col("instrument") == ""), "the instrument is missing")]
    for name in ("exchange", "currency", "ts", "known_at"):
        text = pl.col(name).cast(pl.String)
        rules.append(Rule(text.is_null() | (text == ""), f"{name} is missing"))
    for name, allowed in (("asset_class", ASSET_CLASSES), ("price_basis", ("raw", "total_return"))):
        held = pl.col(name)
        rules.append(
            Rule(
                held.is_null() | ~held.is_in(allowed),
                pl.format(f"{name} {{}} is none of {', '.join(allowed)}", held.fill_null("nothing")),
            )
        )
    for name in ("lot_size", "tick_size"):
        size = pl.col(name)
        rules.append(Rule(~size.is_finite() | (size <= 0), pl.format(f"{name} {{}} is not a positive number", size)))
    rules += [
        Rule(
            pl.col("member_to") < pl.col("member_from"),
            pl.format("member_to {} is before member_from {}", pl.col("member_to"), pl.col("member_from")),
        ),
    ]
    return split_rejects(frame, rules, key=("source", "instrument", "ts"), table="instruments")


def _day_rules(what: str, sessions: Sessions) -> list[Rule]:
    return [
        Rule(pl.col("instrument").is_null() | (pl.col("instrument") == ""), "the instrument is missing"),
        Rule(pl.col("session").is_null(), f"the {what} is missing"),
        Rule(
            pl.col("ts").is_null(),
            pl.format(f"the {what} {{}} is not a session of {sessions.exchange}", pl.col("session").cast(pl.String)),
        ),
    ]


def _time_rules(now: datetime | None) -> list[Rule]:
    rules = [Rule(pl.col("known_at").is_null() | (pl.col("known_at") < pl.col("ts")), "known before it happened")]
    if now is not None:
        rules.append(Rule(pl.col("ts") > _moment(now), "the session had not closed when the bar was fetched"))
    return rules


def _moment(now: datetime) -> pl.Expr:
    return pl.lit(now.astimezone(UTC)).cast(UTC_INSTANT)


def _volume_rule() -> Rule:
    volume = pl.col("volume")
    return Rule((volume < 0) | ~volume.is_finite(), pl.format("volume {} is not a non-negative number", volume))


def _price_rules(span: str) -> list[Rule]:
    close, low, high = pl.col("close"), pl.col("low"), pl.col("high")
    slack = RANGE_TOLERANCE * (1 + close.abs())
    rules = [Rule(close.is_null() | close.is_nan(), "close is missing")]
    for name in ("close", "open", "high", "low"):
        price = pl.col(name)
        # NaN is a missing number, not a wrong one: sources without opens have none at all.
        wrong = price.is_not_nan() & (price.is_infinite() | (price <= 0))
        rules.append(Rule(wrong, pl.format(f"{name} {{}} is not a positive number", price)))
    rules.append(Rule(low.is_not_nan() & (high < low - slack), pl.format("high {} is below low {}", high, low)))
    for name in ("close", "open"):
        price = pl.col(name)
        outside = price.is_not_nan() & ((low.is_not_nan() & (price < low - slack)) | (price > high + slack))
        rules.append(
            Rule(outside, pl.format(f"{name} {{}} lies outside the {span}'s range {{}} to {{}}", price, low, high))
        )
    return rules
