"""Rules on the account: may it trade at all, and may it do more than reduce?

Belongs here: rules whose datum belongs to the account. Does not: rules on single orders (order_rules.py) and on the
batch as a whole (constraints.py).
"""

from __future__ import annotations

from decimal import Decimal

from octopus.core.errors import MissingDataError
from octopus.core.orders import Outcome, TradingState, Verdict
from octopus.risk.book import Book, usable_price
from octopus.risk.case import Case, deny_all, each, reduces, verdict
from octopus.risk.limits import amount


def limits_signed(case: Case) -> list[Verdict]:
    """Unsigned limits let paper orders pass and say so; live ones never."""
    authority, rule = case.authority, "limits_signed"
    if authority.problem is None:
        signers = " and ".join(authority.signers)
        return [verdict(rule, None, Outcome.PASS, f"signed by {signers}, until {case.limits.valid_until}")]
    reason = f"limits unsigned: paper only: {authority.problem}"
    return deny_all(case, rule, reason) if authority.live else [verdict(rule, None, Outcome.WARN, reason)]


def account(case: Case) -> list[Verdict]:
    ours, theirs = case.batch.account, case.snapshot.account
    if ours != theirs:
        return deny_all(case, "account", f"the batch is for account {ours}, the snapshot of {theirs}: take the right")
    return [verdict("account", None, Outcome.PASS, f"batch and snapshot are both of account {ours}")]


def kill_switch(case: Case) -> list[Verdict]:
    rule = "kill_switch"
    if case.state is None:
        return deny_all(case, rule, f"the trading state of account {case.batch.account} is missing: set it")
    if case.state == TradingState.ACTIVE:
        return [verdict(rule, None, Outcome.PASS, "trading is active")]
    if case.state == TradingState.REDUCING:
        warning = "trading is reducing: only orders that make a position smaller pass"
        checks = each(case, rule, lambda order: reduces(case, order, warning))
        return [verdict(rule, None, Outcome.WARN, warning), *checks]
    return deny_all(case, rule, f"trading is {case.state}: resume it before any order may pass")


def snapshot_age(case: Case) -> list[Verdict]:
    rule, limit = "snapshot_age", case.limits.snapshot_age_max_seconds
    age = (case.now - case.snapshot.taken_at).total_seconds()
    if age < 0:
        return deny_all(case, rule, "the account snapshot is from after now: check the clock", age, limit)
    if age > limit:
        return deny_all(case, rule, f"the account snapshot is {age:.0f} s old: take a new one", age, limit)
    return [verdict(rule, None, Outcome.PASS, f"the account snapshot is {age:.0f} s old", age, limit)]


def equity(case: Case) -> list[Verdict]:
    if isinstance(case.book, MissingDataError):
        return deny_all(case, "equity", str(case.book))
    return [verdict("equity", None, Outcome.PASS, f"equity {case.book.equity:,.2f} at the prices of now")]


def equity_min(case: Case) -> list[Verdict]:
    rule, limit = "equity_min_usd", case.limits.equity_min_usd
    if isinstance(case.book, MissingDataError):
        return deny_all(case, rule, str(case.book))
    found = case.book.equity
    reason = f"equity {found:,.2f}, at least {limit:,.2f}"
    if found >= limit:
        return [verdict(rule, None, Outcome.PASS, reason, float(found), float(limit))]
    return _only_reductions(case, rule, f"{reason} is wanted", float(found), float(limit))


_RESET = " (to begin anew, set drawdown_since in risk.yaml and sign it twice)"


def drawdown_stop(case: Case) -> list[Verdict]:
    nav = ("the NAV peak", case.market.nav_peak)
    return _loss_stop(case, "drawdown_stop", nav, case.limits.drawdown_stop)


def loss_per_day(case: Case) -> list[Verdict]:
    nav = ("yesterday's NAV", case.market.nav_previous)
    return _loss_stop(case, "loss_per_day", nav, case.limits.loss_per_day_max)


def _loss_stop(case: Case, rule: str, nav: tuple[str, Decimal | None], limit: float) -> list[Verdict]:
    """Beyond ``limit`` below a past NAV only reducing orders pass."""
    name, reference = nav
    if isinstance(case.book, MissingDataError):
        return deny_all(case, rule, str(case.book))
    if reference is None or not usable_price(reference):
        missing = f"{name} of account {case.batch.account} is missing, or of before the session that precedes "
        return deny_all(case, rule, f"{missing}{case.batch.session}: materialise execution/positions, which strikes it")
    loss = _loss(case.book, reference)
    reason = f"equity {case.book.equity:,.2f} is {loss:.2%} below {name} {reference:,.2f}"
    value = float(loss)
    if not _is_beyond(loss, limit):
        return [verdict(rule, None, Outcome.PASS, reason, value, limit)]
    remedy = _RESET if rule == "drawdown_stop" else ""
    return _only_reductions(case, rule, f"{reason}, beyond {amount(rule, limit)}{remedy}", value, limit)


def only_reductions_pass(case: Case) -> str | None:
    """Why nothing passes but orders that make a position smaller; None where others may."""
    if case.state is TradingState.REDUCING:
        return "trading is reducing"
    if isinstance(case.book, MissingDataError):
        return None
    if case.book.equity < case.limits.equity_min_usd:
        return "equity is below equity_min_usd"
    stops = (
        ("drawdown_stop", case.market.nav_peak, case.limits.drawdown_stop),
        ("loss_per_day_max", case.market.nav_previous, case.limits.loss_per_day_max),
    )
    for name, reference, limit in stops:
        if reference is not None and usable_price(reference) and _is_beyond(_loss(case.book, reference), limit):
            return f"the account lost more than {name}"
    return None


def _loss(book: Book, reference: Decimal) -> Decimal:
    """Fraction of ``reference`` that the equity is below it."""
    return max(Decimal(0), 1 - book.equity / reference)


def _is_beyond(loss: Decimal, limit: float) -> bool:
    return loss > Decimal(str(limit))


def _only_reductions(case: Case, rule: str, reason: str, value: float, limit: float) -> list[Verdict]:
    warning = f"{reason}: only orders that make a position smaller pass"
    checks = each(case, rule, lambda order: reduces(case, order, warning, value, limit))
    return [verdict(rule, None, Outcome.WARN, warning, value, limit), *checks]
