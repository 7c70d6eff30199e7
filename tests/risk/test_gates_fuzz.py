"""Any batch on any account: what both gates approve is inside every limit, worked out again by the plainest means.

The checker below knows the documented rules (docs/risk.md, config/risk.yaml, config/compliance.yaml) and none of the
gates' code: it fills every part of the orders that may fill, one after the other, and looks at what the account would
be. Where the account was beyond a limit before, nothing approved may add to that.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from octopus.compliance import gate as compliance_gate
from octopus.compliance.checks import ComplianceContext, RecentIntent
from octopus.compliance.replay import is_same
from octopus.compliance.replay import judged_again as compliance_again
from octopus.compliance.rules import CompliancePolicy
from octopus.core.ids import canonical_json
from octopus.core.orders import AccountSnapshot, Batch, GateReport, OpenOrder, PlannedOrder, Side, TradingState
from octopus.risk import gate as risk_gate
from octopus.risk.limits import RiskLimits
from octopus.risk.market import LastPrice, MarketContext, ReturnHistory, SentMessage
from octopus.risk.signatures import Authority

D = Decimal
CONFIG = Path(__file__).parents[2] / "config"
LIMITS = RiskLimits.model_validate(yaml.safe_load((CONFIG / "risk.yaml").read_text(encoding="utf-8")))
DOCUMENT: dict[str, Any] = yaml.safe_load((CONFIG / "compliance.yaml").read_text(encoding="utf-8"))
for _rule in DOCUMENT["rules"]:
    if _rule["kind"] == "restricted_list":
        _rule["parameters"]["entries"] = [
            {"symbol": "FFF", "effective_from": date(2022, 1, 1), "effective_to": None, "reason": "a mandate"}
        ]
POLICY = CompliancePolicy.model_validate(DOCUMENT)
AGAIN = {risk_gate.GATE: risk_gate.judged_again, compliance_gate.GATE: compliance_again}
NAMES = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
PRICES = dict(zip(NAMES, map(D, ("100", "50", "12.5", "200", "4", "30")), strict=True))
SECTORS = dict(zip(NAMES, ("tech", "tech", "tech", "energy", "energy", "utilities"), strict=True))
NOW, SESSION = datetime(2022, 12, 28, 15, tzinfo=UTC), date(2022, 12, 27)
DAYS = np.datetime64(SESSION, "D") - np.arange(LIMITS.var_window_sessions + 20)[::-1]
_CHANCE = np.random.default_rng(3)
RETURNS = _CHANCE.normal(0, 0.012, (len(DAYS), 1)) + _CHANCE.normal(0, 1, (len(DAYS), len(NAMES))) * np.array(
    [0.01, 0.015, 0.05, 0.01, 0.03, 0.01]
)
CONTEXT = ComplianceContext(
    trade_session=NOW.date(), session_open=NOW - timedelta(minutes=30), session_close=NOW + timedelta(hours=6),
    short_allowed=False, recent_intents=(), price_basis="raw",
)  # fmt: skip
BENCHMARK = {"AAA": 0.6, "DDD": 0.4}
MARKET = sum(weight * RETURNS[-LIMITS.var_window_sessions :, NAMES.index(name)] for name, weight in BENCHMARK.items())
EDGE = 1e-9


@dataclass(frozen=True)
class World:
    """All that one batch is judged by."""

    batch: Batch
    snapshot: AccountSnapshot
    market: MarketContext
    limits: RiskLimits
    state: TradingState
    recent: tuple[RecentIntent, ...]


NEAR = (D(1),) * 6 + (D("1.1"), D("0.9"), D("1.101"), D("0.899"), D("NaN"), D(-1))
ODD = (D(0), D(-5), D("NaN"), D("Infinity"), D("0.5"), D(10**9), D("1e-9"))


def order_of(chance: random.Random, number: int, sane: bool) -> PlannedOrder:
    name, side = chance.choice(NAMES), chance.choice((Side.BUY, Side.BUY, Side.SELL))
    # About a tenth of a million in each.
    size = D(chance.randint(1, int(150_000 / PRICES[name]) if sane else 3000))
    if sane:
        return PlannedOrder(f"i-{number}", name, side, size, PRICES[name])
    size = chance.choice([size] * 5 + [chance.choice(ODD)])
    price = PRICES[name] * chance.choice(NEAR) if chance.random() < 0.9 else D(100)
    return PlannedOrder(chance.choice([f"i-{number}"] * 9 + ["i-0"]), name, side, size, price)


def world_of(seed: int) -> World:
    """An account of a hundred thousand to a million, held long or short, and a batch of sense or of nonsense."""
    chance = random.Random(seed)
    sane = chance.random() < 0.7
    equity = 1_000_000 if sane else chance.choice([9_000, 100_000, 1_000_000])
    some = chance.sample(NAMES, chance.randint(0, 4))
    held = {
        name: D(chance.randint(-50 if chance.random() < 0.2 else 1, int(D(equity) / 5 / PRICES[name]))) for name in some
    }
    held = {name: shares for name, shares in held.items() if shares}
    value = sum((held[name] * PRICES[name] for name in held), D(0))
    cash = equity - value * chance.choice([1, 1, 1, 0])
    working = tuple(
        OpenOrder(
            f"w-{number}", name, chance.choice(list(Side)), D(chance.randint(1, int(D(equity) / 20 / PRICES[name])))
        )
        for number, name in enumerate(chance.sample(NAMES, chance.choice([0, 0, 1, 2])))
    )
    orders = tuple(order_of(chance, number, sane) for number in range(chance.randint(1, 6)))
    # A share more than is held, or just as many.
    orders = tuple(
        replace(one, quantity=abs(held[one.instrument]) + chance.choice([0, 1]))
        if one.instrument in held and chance.random() < 0.3
        else one
        for one in orders
    )
    ages = {name: 60 if sane else chance.choice([60] * 5 + [400_000, 500_000]) for name in NAMES}
    sent = tuple(
        SentMessage(NOW - timedelta(seconds=chance.randint(1, 5000)), "AAA", Side.BUY)
        for _ in range(0 if sane else chance.choice([0, 29, 30, 31]))
    )
    # One or a few of them narrow, the others as they ship or wide.
    narrow = {
        "partial_fill_allowance": [0.0, 0.05], "gross_max": [0.3, 0.6], "net_min": [-0.3, 0.1], "net_max": [0.2, 0.5],
        "name_weight_max": [0.06, 0.1], "order_notional_max_fraction": [0.05, 0.1], "turnover_max": [0.1, 0.2],
        "turnover_max_initial": [0.2], "sector_weight_max": [0.1, 0.25], "var_95_max": [0.004, 0.008],
        "cvar_95_max": [0.006, 0.012], "volatility_max_annual": [0.05, 0.1], "messages_max": [1, 2],
        "leverage_max": [1.0], "capital_threshold_usd": [D(60_000), D(300_000)], "cash_min_fraction": [0.5, 0.8],
        "position_notional_max_usd": [D(50_000)], "adv_participation_max": [0.01], "long_only": [True],
        "name_weight_min": [-0.02, 0.0], "beta_max": [0.05, 0.2], "beta_min": [-0.05, 0.03],
        "tracking_error_max_annual": [0.15, 0.3],
    }  # fmt: skip
    wide = {
        "partial_fill_allowance": 0.3, "name_weight_max": 0.9, "order_notional_max_fraction": 0.9, "turnover_max": 4.0,
        "turnover_max_initial": 4.0, "sector_weight_max": 3.0, "order_notional_max_usd": D(10**7), "gross_max": 3.0,
        "net_max": 3.0, "net_min": -1.0, "leverage_max": 3.0, "cash_min_fraction": -1.0,
        "position_notional_max_usd": D(10**7), "capital_threshold_usd": D(10**8), "var_95_max": 0.5, "cvar_95_max": 0.5,
        "volatility_max_annual": 5.0, "long_only": False,
    }  # fmt: skip
    chosen = {name: chance.choice(narrow[name]) for name in chance.sample(sorted(narrow), chance.randint(1, 3))}
    limits = LIMITS.model_copy(update=(wide if chance.random() < 0.7 else {}) | chosen | {"benchmark": BENCHMARK})
    rise = D(1) if sane else chance.choice([D(1), D("1.05"), D("1.09"), D("1.4")])
    worth = cash + value
    market = MarketContext(
        {name: LastPrice(PRICES[name], NOW - timedelta(seconds=ages[name])) for name in NAMES},
        ReturnHistory(DAYS, NAMES, RETURNS), "raw", worth * rise, worth * min(rise, D("1.09")),
        {name: D(chance.choice([1_000, 100_000]) if not sane else 10**7) for name in NAMES}, SECTORS, sent,
    )  # fmt: skip
    recent = tuple(
        RecentIntent("r", one.instrument, one.side, one.quantity, NOW - timedelta(minutes=30))
        for one in orders[: 0 if chance.random() < 0.8 else 1]
        if one.quantity.is_finite()
    )
    begins = NOW - timedelta(minutes=10 if sane else chance.choice([10] * 5 + [400]))
    state = TradingState.ACTIVE if sane else chance.choice([*TradingState, TradingState.ACTIVE])
    batch = Batch("b", "a", SESSION, begins, NOW + timedelta(hours=5), orders)
    return World(batch, AccountSnapshot("a", NOW, cash, held, PRICES, working), market, limits, state, recent)


# The checker ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holdings:
    """What an account would be if some orders filled, in parts of today's equity."""

    value: dict[str, float]
    cash: float

    @property
    def gross(self) -> float:
        return sum(map(abs, self.value.values()))

    @property
    def net(self) -> float:
        return sum(self.value.values())

    @property
    def leverage(self) -> float:
        return sum(max(part, 0.0) for part in self.value.values()) + max(self.cash, 0.0)

    def sector(self, name: str) -> float:
        return sum(abs(part) for instrument, part in self.value.items() if SECTORS[instrument] == name)

    def returns(self) -> np.ndarray:
        window = RETURNS[-LIMITS.var_window_sessions :]
        return sum((part * window[:, NAMES.index(name)] for name, part in self.value.items()), np.zeros(len(window)))


class Account:
    def __init__(self, world: World) -> None:
        snapshot = world.snapshot
        self.price = {name: float(price) for name, price in PRICES.items()}
        self.shares = {name: float(shares) for name, shares in snapshot.positions.items()}
        self.cash = float(snapshot.cash)
        self.equity = self.cash + sum(self.price[name] * shares for name, shares in self.shares.items())
        self.open = [(o.instrument, o.side.sign * float(o.remaining)) for o in snapshot.open_orders]

    def filled(self, trades: Sequence[tuple[str, float]]) -> Holdings:
        shares, cash = dict(self.shares), self.cash
        for name, amount in trades:
            shares[name] = shares.get(name, 0.0) + amount
            cash -= amount * self.price[name]
        return Holdings({n: s * self.price[n] / self.equity for n, s in shares.items()}, cash / self.equity)

    def parts(self, trades: Sequence[tuple[str, float]]) -> list[Holdings]:
        """Whatever part fills, whole orders: exposures are largest at such corners."""
        return [
            self.filled([trade for trade, fills in zip(trades, chosen, strict=True) if fills])
            for chosen in product((False, True), repeat=len(trades))
        ]


def losses(held: Holdings) -> tuple[float, float, float]:
    """Annual volatility, and loss of the 5 % worst days: the least of them and their mean (config/risk.yaml)."""
    returns = np.sort(held.returns())
    days = 0.05 * len(returns)
    worst = returns[: int(days)]
    return float(returns.std(ddof=1)) * math.sqrt(252), -float(returns[math.ceil(days) - 1]), -float(worst.mean())


def against(held: Holdings) -> tuple[float, float]:
    """Beta to the benchmark and annual tracking error."""
    returns = held.returns()
    beta = np.cov(returns, MARKET)[0, 1] / np.var(MARKET, ddof=1)
    return float(beta), float((returns - MARKET).std(ddof=1)) * math.sqrt(252)


def exposures(account: Account, world: World, trades: Sequence[tuple[str, float]]) -> dict[str, tuple[float, float]]:
    """Figure and limit by rule, each written so that more is worse."""
    limits, slack = world.limits, world.limits.partial_fill_allowance
    trades = [*account.open, *trades]
    whole, parts = account.filled(trades), account.parts(trades)
    uninvested = not account.shares
    turnover = sum(abs(amount) * account.price[name] for name, amount in trades) / account.equity
    found = {
        "gross": (whole.gross, limits.gross_max), "net_max": (whole.net, limits.net_max),
        "net_min": (-whole.net, -limits.net_min), "leverage": (whole.leverage, limits.leverage_max),
        "cash": (-whole.cash, -limits.cash_min_fraction),
        "turnover": (turnover, limits.turnover_max_initial if uninvested else limits.turnover_max),
        "gross part": (max(h.gross for h in parts), limits.gross_max + slack),
        "net_max part": (max(h.net for h in parts), limits.net_max + slack),
        "net_min part": (max(-h.net for h in parts), slack - limits.net_min),
        "cash part": (max(-h.cash for h in parts), slack - limits.cash_min_fraction),
        "capital": (max(h.gross for h in parts) * account.equity, float(limits.capital_threshold_usd)),
    }  # fmt: skip
    for name in {*account.shares, *(name for name, _ in trades)}:
        weight = max(abs(h.value.get(name, 0.0)) for h in parts)
        found[f"weight {name}"] = (weight, limits.name_weight_max)
        least = min(h.value.get(name, 0.0) for h in parts)
        found[f"short {name}"] = (-least, 0.0 if limits.long_only else math.inf)
        found[f"least {name}"] = (-least, math.inf if limits.name_weight_min is None else -limits.name_weight_min)
        found[f"position {name}"] = (weight * account.equity, float(limits.position_notional_max_usd))
    for sector in set(SECTORS.values()) if limits.sector_weight_max is not None else ():
        found[f"sector {sector}"] = (whole.sector(sector), limits.sector_weight_max or 0.0)
        found[f"sector {sector} part"] = (
            max(h.sector(sector) for h in parts),
            (limits.sector_weight_max or 0.0) + slack,
        )
    buys, sells = ([t for t in trades if t[1] * sign > 0] for sign in (1, -1))
    for when, some, factor in (("", trades, 1.0), (" buys", buys, 1 + slack), (" sells", sells, 1 + slack)):
        for rule, figure, limit in zip(
            ("volatility", "var", "cvar"), losses(account.filled(some)),
            (limits.volatility_max_annual, limits.var_95_max, limits.cvar_95_max), strict=True,
        ):  # fmt: skip
            found[rule + when] = (figure, limit * factor)
        beta, error = against(account.filled(some))
        room, most, least = slack if when else 0.0, limits.beta_max, limits.beta_min
        found["beta_max" + when] = (beta, math.inf if most is None else most + room)
        found["beta_min" + when] = (-beta, math.inf if least is None else room - least)
        found["tracking" + when] = (error, (limits.tracking_error_max_annual or math.inf) * factor)
    return found


def require_inside_limits(world: World, orders: Sequence[PlannedOrder]) -> None:
    account = Account(world)
    assert account.equity > 0
    trades = [(o.instrument, o.side.sign * float(o.quantity)) for o in orders]
    before = exposures(account, world, [])
    for rule, (figure, limit) in exposures(account, world, trades).items():
        if is_stopped(world, account) and rule.startswith(("turnover", "net_min", "beta_min", "tracking")):
            continue  # what binds no order that only makes a position smaller, and no other passes
        allowed = max(limit, before[rule][0]) if rule in before else limit
        assert figure <= allowed + EDGE * max(1.0, abs(allowed)), (
            f"{rule}: {figure} over {limit}, before {before.get(rule)}"
        )
    recently = [
        m for m in world.market.sent or () if m.at > NOW - timedelta(seconds=world.limits.messages_window_seconds)
    ]
    assert not orders or len(recently) + len(orders) <= world.limits.messages_max
    for order in orders:
        require_sound(world, account, order)
    asked: Counter[str] = Counter()
    for name, amount in [*account.open, *trades]:
        asked[name] += abs(amount)
    for name in {order.instrument for order in orders}:
        assert asked[name] <= world.limits.adv_participation_max * float(world.market.adv_shares[name]) + EDGE


def is_stopped(world: World, account: Account) -> bool:
    """Whether only orders that make a position smaller pass."""
    limits, market = world.limits, world.market
    return (
        world.state is TradingState.REDUCING
        or account.equity < float(limits.equity_min_usd)
        or 1 - account.equity / float(market.nav_peak or 0) > limits.drawdown_stop + EDGE
        or 1 - account.equity / float(market.nav_previous or 0) > limits.loss_per_day_max + EDGE
    )


def require_sound(world: World, account: Account, order: PlannedOrder) -> None:
    """The rules on one order."""
    limits, name = world.limits, order.instrument
    price, reference = account.price[name], float(order.reference_price)
    notional = float(order.quantity) * max(price, reference)
    assert math.isfinite(notional)
    assert notional > 0
    assert sum(other.intent_id == order.intent_id for other in world.batch.orders) == 1
    assert abs(reference / price - 1) <= limits.price_collar + EDGE
    assert (
        notional
        <= min(float(limits.order_notional_max_usd), limits.order_notional_max_fraction * account.equity) + 1e-6
    )
    assert (NOW - world.market.last_prices[name].at).total_seconds() <= limits.price_age_max_seconds
    held, sold = world.snapshot.positions.get(name, D(0)), world.snapshot.working(name, order.side)
    reducing = order.quantity + sold <= -order.side.sign * held
    stopped = is_stopped(world, account)
    assert world.state is not TradingState.HALTED
    assert reducing or not stopped
    since = NOW - timedelta(seconds=limits.repeated_executions_window_seconds)
    repeated = sum((m.instrument, m.side) == (name, order.side) and m.at > since for m in world.market.sent or ())
    assert stopped or repeated < limits.repeated_executions_max


def require_compliant(world: World, orders: Sequence[PlannedOrder]) -> None:
    """The rules of config/compliance.yaml that bind a US cash account at the paper broker."""
    snapshot, batch = world.snapshot, world.batch
    if orders:
        assert batch.not_before >= CONTEXT.session_open - timedelta(minutes=330)
        assert len(batch.orders) <= 100
    assert len({(o.instrument, o.side, o.quantity) for o in orders}) == len(orders), "no order twice"
    for order in orders:
        name = order.instrument
        assert name != "FFF", "restricted"
        assert (name, order.side, order.quantity) not in {(r.instrument, r.side, r.quantity) for r in world.recent}
        against = {o.side for o in snapshot.open_orders if o.instrument == name} | {
            o.side for o in orders if o.instrument == name
        }
        assert against <= {order.side}, "nothing of ours on the other side"
        held = snapshot.positions.get(name, D(0))
        moved = snapshot.working(name, order.side) + sum(
            (o.quantity for o in orders if (o.instrument, o.side) == (name, order.side)), D(0)
        )
        end = held + order.side.sign * moved
        if order.side is Side.SELL:
            assert end >= 0, "long only"
        else:
            assert order.reference_price >= 5
            assert end <= 100_000
            assert end * max(order.reference_price, PRICES[name]) / snapshot.equity <= D("0.2")


def require_told_again(report: GateReport) -> None:
    """What the report was given on, written down and read, gives it again."""
    assert report.evidence is not None
    again = AGAIN[report.gate](canonical_json(report.evidence.record()), report.evidence.contents())
    assert again.approved == report.approved
    assert len(again.verdicts) == len(report.verdicts)
    for ours, theirs in zip(again.verdicts, report.verdicts, strict=True):
        assert is_same(ours, theirs), (ours, theirs)
        assert ours.reason == theirs.reason


def judged(world: World) -> tuple[GateReport, GateReport]:
    risk = risk_gate.judge(
        world.batch, world.snapshot, world.market, world.limits, world.state, Authority(False, "not asked"), NOW
    )
    context = replace(CONTEXT, recent_intents=world.recent, sending=True)
    return risk, compliance_gate.judge(world.batch, world.snapshot, context, POLICY, NOW)


@pytest.mark.parametrize("examples", [120, pytest.param(6000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_what_both_gates_approve_is_inside_every_limit(
    examples: int, record_property: Callable[[str, object], None]
) -> None:
    counts: Counter[str] = Counter()

    @settings(max_examples=examples, deadline=None)
    @given(st.integers(0, 2**40))
    def fuzz(seed: int) -> None:
        world = world_of(seed)
        orders = {order.intent_id: order for order in world.batch.orders}
        for report, require in zip(judged(world), (require_inside_limits, require_compliant), strict=True):
            require(world, [orders[intent] for intent in report.approved])
            require_told_again(report)
            counts[f"orders that {report.gate} approved"] += len(report.approved)
            counts[f"orders that {report.gate} denied"] += len(world.batch.orders) - len(report.approved)
        counts["batches"] += 1

    fuzz()
    record_property("proof", {"Batches at both gates": dict(counts)})
    assert counts["orders that risk approved"] > examples // 20, "or nothing was shown"
    assert counts["orders that compliance approved"] > examples // 20


def test_slices_of_one_instrument_count_together_for_its_volume() -> None:
    slices = tuple(PlannedOrder(f"s-{number}", "AAA", Side.BUY, D(30), PRICES["AAA"]) for number in range(2))
    world = world_of(0)
    market = replace(
        world.market, adv_shares=dict.fromkeys(NAMES, D(1000)), sent=(), nav_peak=D(10**6), nav_previous=D(10**6),
        last_prices={name: LastPrice(PRICES[name], NOW) for name in NAMES},
    )  # fmt: skip
    world = World(
        replace(world.batch, orders=slices), AccountSnapshot("a", NOW, D(10**6), {}, PRICES), market, LIMITS,
        TradingState.ACTIVE, (),
    )  # fmt: skip
    assert judged(world)[0].approved == ("s-0",)


@pytest.mark.parametrize("broken", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("of", ["AAA", "BBB"], ids=["the ordered one", "another one"])
@pytest.mark.parametrize("what", ["held", "working"])
def test_a_quantity_of_the_brokers_that_is_no_number_denies_all_and_is_named(what: str, of: str, broken: str) -> None:
    orders = (
        PlannedOrder("sell", "AAA", Side.SELL, D(5), PRICES["AAA"]),
        PlannedOrder("buy", "AAA", Side.BUY, D(3), PRICES["AAA"]),
    )
    snapshot = AccountSnapshot("a", NOW, D(10**6), {"AAA": D(10), "BBB": D(10)}, PRICES)
    if what == "held":
        snapshot = replace(snapshot, positions={**snapshot.positions, of: D(broken)})
    else:
        snapshot = replace(snapshot, open_orders=(OpenOrder("o", of, Side.SELL, D(broken)),))
    calm = world_of(0)
    world = World(
        replace(calm.batch, orders=orders), snapshot, replace(calm.market, sent=()), LIMITS, TradingState.REDUCING, ()
    )
    for report in judged(world):
        assert report.approved == ()
        told = {verdict.intent_id for verdict in report.denials if f"working in {of} is not a number" in verdict.reason}
        assert told >= {"sell", "buy"}
        require_told_again(report)
