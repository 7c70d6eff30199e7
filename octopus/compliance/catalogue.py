"""Which check judges which kind of rule.

Belongs here: that table. Does not: the checks (checks.py, market_checks.py, margin_checks.py, wash_sales.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from octopus.compliance import checks, margin_checks, market_checks, rules, wash_sales
from octopus.compliance.checks import Case, Finding

CHECKS: Mapping[type[rules.Rule], Callable[[Any, Case], list[Finding]]] = {
    rules.RestrictedList: checks.listed,
    rules.WatchList: checks.listed,
    rules.SessionWindow: checks.session_window,
    rules.DuplicateOrder: checks.duplicates,
    rules.SelfCross: checks.self_crosses,
    rules.ShortSale: checks.short_sales,
    rules.PositionLimitShares: checks.share_limits,
    rules.PositionLimitFraction: checks.fraction_limits,
    rules.OrderCount: checks.order_count,
    rules.MinimumPrice: checks.minimum_prices,
    rules.ShortSalePriceTest: market_checks.price_tests,
    rules.TradingHalt: market_checks.trading_halts,
    rules.InitialMargin: margin_checks.initial_margins,
    rules.PatternDayTrader: margin_checks.pattern_day_trades,
    rules.IntradayMargin: margin_checks.intraday_margins,
    rules.WashSale: wash_sales.warnings,
    rules.OwnershipThreshold: market_checks.ownership,
    rules.OrderValue: market_checks.order_values,
    rules.OrderVolume: market_checks.order_volumes,
    rules.MessageRate: market_checks.message_rate,
}


LASTING = frozenset({
    rules.RestrictedList, rules.WatchList, rules.SessionWindow, rules.DuplicateOrder, rules.SelfCross, rules.ShortSale,
    rules.PositionLimitShares, rules.PositionLimitFraction, rules.OrderCount, rules.MinimumPrice,
    rules.ShortSalePriceTest, rules.TradingHalt, rules.WashSale, rules.OwnershipThreshold, rules.OrderValue,
    rules.OrderVolume, rules.MessageRate,
})  # fmt: skip
"""Rules that approve what is left of a batch, once they approved all of it and the rest was sent and is open: there an
open order weighs as it did in the batch. Margin asks what has filled: proceeds that a sent sell has not brought yet."""


def lasts(rule: rules.Rule, terms: rules.AccountTerms) -> bool:
    """Whether what the rule lets through as a batch it lets through order by order (`LASTING`)."""
    if isinstance(rule, rules.IntradayMargin | rules.PatternDayTrader) and not terms.margin:
        return True
    return type(rule) in LASTING or rule.mode is not rules.Mode.ENFORCE


def lower_bounds(policy: rules.CompliancePolicy) -> frozenset[str]:
    """Ids of the rules whose limit is a floor; every other limit is a ceiling. A cash account's cash is to be left."""
    floors = (rules.MinimumPrice,) if policy.account.margin else (rules.MinimumPrice, rules.InitialMargin)
    return frozenset(rule.id for rule in policy.rules if isinstance(rule, floors))


def findings(rule: rules.Rule, case: Case) -> list[Finding]:
    """Evaluate one rule.

    Raises:
        MissingDataError: a datum of the account or the session is missing.
    """
    return CHECKS[type(rule)](rule, case)
