"""Post-trade surveillance of our own orders: patterns that a market-abuse officer would ask about.

Belongs here: wash trades, layering, marking the close, momentum ignition over recorded orders and fills. Does not:
reading them (resources/warehouse/posttrade.py) and stopping orders before they leave (gate.py).

Each pattern is a few thresholds on what was sent, cancelled and filled; a finding names the orders, the figure and the
threshold, and is a question to a person, not a verdict: intent is not in the records. Orders are compared, not fills:
in how many parts a venue executes an order is not ours to choose and changes no finding. Sources: Regulation (EU)
596/2014 article 12 and Delegated Regulation (EU) 2016/522 annex II; EU 2017/589 article 13; FINRA 5210 and its 5210.02;
Securities Exchange Act 9(a)(2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from octopus.core.amounts import plain
from octopus.core.ids import fingerprint
from octopus.core.orders import Fill, Side

PASSIVE, AT_THE_CLOSE = "limit", "market_on_close"
"""The order types that may rest in the book, and that are for the closing auction alone."""


class Pattern(StrEnum):
    WASH_TRADE = "wash_trade"
    """We bought from ourselves: no change of ownership."""
    LAYERING = "layering"
    """Resting orders, soon cancelled, on one side while the other side filled."""
    MARKING_THE_CLOSE = "marking_the_close"
    """A large part of the trading before the close, moving the closing price our way."""
    MOMENTUM_IGNITION = "momentum_ignition"
    """A burst that moved the price, and a quick trade the other way."""


class SurveillanceTerms(BaseModel):
    """Thresholds of the patterns.

    Attributes:
        wash_seconds, wash_price_bps, wash_match: buy orders and sell orders whose executions so near each other in
            time and price have quantities so alike (smaller over larger): one against one, one against several, or
            all that hang together so.
        layer_orders, layer_seconds, layer_filled, layer_multiple: at least so many limit orders, each cancelled within
            so many seconds with at most that fraction filled, together that multiple of what filled opposite.
        close_minutes, close_volume_fraction, close_move_bps: fills so near the close, before it or, as the auction's
            are printed, after it, and those of on-close orders; so much of the day's volume; and the closing price so
            far our way from the price before.
        burst_orders, burst_seconds, burst_move_bps, reversal_minutes, reversal_fraction: so many orders at the market
            on one side within so many seconds, a price so much further between the first and the last fill, and fills
            the other way soon after for that fraction of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    wash_seconds: float = Field(default=60, gt=0, le=86_400)
    wash_price_bps: float = Field(default=5, ge=0)
    wash_match: float = Field(default=0.8, gt=0, le=1)
    layer_orders: int = Field(default=3, ge=2)
    layer_seconds: float = Field(default=60, gt=0, le=86_400)
    layer_filled: float = Field(default=0.1, ge=0, lt=1)
    layer_multiple: float = Field(default=3, ge=1)
    close_minutes: float = Field(default=10, ge=0, le=1440)
    close_volume_fraction: float = Field(default=0.05, gt=0, le=1)
    close_move_bps: float = Field(default=30, gt=0)
    burst_orders: int = Field(default=4, ge=2)
    burst_seconds: float = Field(default=60, gt=0, le=86_400)
    burst_move_bps: float = Field(default=20, gt=0)
    reversal_minutes: float = Field(default=10, gt=0, le=1440)
    reversal_fraction: float = Field(default=0.5, gt=0, le=1)


@dataclass(frozen=True)
class SentOrder:
    """One order of ours that left, a replacement being an order of its own.

    Attributes:
        order_type: ``market``, ``limit``, ``stop``, ``market_on_open``, ``market_on_close``.
        cancelled_at: when it was cancelled or replaced; None if it was not.
    """

    order_id: str
    instrument: str
    side: Side
    quantity: Decimal
    order_type: str
    sent_at: datetime
    cancelled_at: datetime | None = None


@dataclass(frozen=True)
class MarketDay:
    """What an instrument did on the day.

    Attributes:
        close_at: the session's close. volume: shares. price_before: the last one before we could move it (the last
            close, or the price at the window's start). close: the closing price. All in raw prices, of the day's
            shares.
    """

    close_at: datetime
    volume: float
    price_before: float
    close: float


@dataclass(frozen=True)
class Suspicion:
    """One finding: ``value`` beside the threshold ``limit``, in the unit that the message names."""

    pattern: Pattern
    instrument: str
    orders: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    value: float
    limit: float
    message: str

    @property
    def finding_id(self) -> str:
        return fingerprint(self.pattern.value, self.instrument, self.orders)


def watch(
    orders: Sequence[SentOrder], fills: Sequence[Fill], market: Mapping[str, MarketDay], terms: SurveillanceTerms
) -> list[Suspicion]:
    """All findings over the orders and fills of one account and session, by instrument and time.

    Args:
        fills: of those orders, by their ids. market: by instrument; where it is absent, `blind` names the instrument.
    """
    ours: dict[str, list[SentOrder]] = defaultdict(list)
    done: dict[str, list[_Execution]] = defaultdict(list)
    for order in sorted(orders, key=lambda item: (item.sent_at, item.order_id)):
        ours[order.instrument].append(order)
    for execution in _executions(fills):
        done[execution.instrument].append(execution)
    found: list[Suspicion] = []
    for name in sorted(done):
        found += _wash_trades(done[name], terms)
        found += _layering(ours[name], done[name], terms)
        found += _momentum_ignition(ours[name], done[name], terms)
        if name in market:
            found += _marking_the_close(ours[name], done[name], market[name], terms)
    return found


@dataclass(frozen=True)
class _Execution:
    """What an order filled at one instant, in however many parts; ``value`` is its quantity times its price."""

    order_id: str
    instrument: str
    side: Side
    quantity: Decimal
    value: Decimal
    at: datetime

    @property
    def price(self) -> Decimal:
        return self.value / self.quantity


def _executions(fills: Sequence[Fill]) -> list[_Execution]:
    """Of the fills, by time and then order."""
    parts: dict[tuple[datetime, str], list[Fill]] = defaultdict(list)
    for fill in fills:
        parts[fill.at, fill.client_order_id].append(fill)
    return [
        _Execution(
            order_id, of[0].instrument, of[0].side, sum((fill.quantity for fill in of), Decimal(0)),
            sum((fill.quantity * fill.price for fill in of), Decimal(0)), at,
        )
        for (at, order_id), of in sorted(parts.items())
    ]  # fmt: skip


def _quantity(executions: Iterable[_Execution]) -> Decimal:
    return sum((one.quantity for one in executions), Decimal(0))


def blind(fills: Sequence[Fill], market: Mapping[str, MarketDay]) -> list[str]:
    """Instruments that traded and whose day is not known: marking the close cannot be told of them."""
    return sorted({fill.instrument for fill in fills} - set(market))


# -- wash trades ------------------------------------------------------------------------------------------------------


_Pair = tuple[_Execution, _Execution]


def _wash_trades(done: Sequence[_Execution], terms: SurveillanceTerms) -> Iterator[Suspicion]:
    """In however many orders: each execution counts for one finding, of the fewest orders that make one."""
    near, used = _near(done, terms), set[_Execution]()
    for names in _together(near):
        left = [pair for name in names for pair in near[name] if used.isdisjoint(pair)]
        parts = sorted({one for pair in left for one in pair}, key=lambda one: (one.at, one.order_id))
        finding = _wash_trade(parts, terms)
        if finding is not None:
            used.update(parts)
            yield finding


def _wash_trade(parts: Sequence[_Execution], terms: SurveillanceTerms) -> Suspicion | None:
    """Whether these, by time, take back what they do."""
    sides = [[one for one in parts if one.side is side] for side in Side]
    if not all(sides):
        return None
    less, more = sorted(_quantity(side) for side in sides)
    prices = sorted(sum((one.value for one in side), Decimal(0)) / _quantity(side) for side in sides)
    gap_bps = float((prices[1] - prices[0]) / prices[0]) * 1e4
    if gap_bps > terms.wash_price_bps or float(less / more) < terms.wash_match:
        return None
    orders, seconds = tuple(dict.fromkeys(one.order_id for one in parts)), (parts[-1].at - parts[0].at).total_seconds()
    many = f" in {len(orders)} orders" if len(orders) > 2 else ""
    return Suspicion(
        Pattern.WASH_TRADE, parts[0].instrument, orders, parts[0].at, parts[-1].at, gap_bps, terms.wash_price_bps,
        f"bought and sold {plain(less)} {parts[0].instrument}{many} within {seconds:g} s, {gap_bps:.1f} bp apart",
    )  # fmt: skip


def _together(near: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Pairs of orders that are looked at as one: order against order, one against all that are near it, and all that
    hang together."""
    pairs = list(near)
    yield from ([pair] for pair in pairs)
    for order in dict.fromkeys(order for pair in pairs for order in pair):
        yield [pair for pair in pairs if order in pair]
    chains: list[list[tuple[str, str]]] = []
    for pair in pairs:
        linked = [chain for chain in chains if any(not set(pair).isdisjoint(other) for other in chain)]
        chains = [chain for chain in chains if chain not in linked]
        chains.append([*(other for chain in linked for other in chain), pair])
    yield from chains


def _near(done: Sequence[_Execution], terms: SurveillanceTerms) -> dict[tuple[str, str], list[_Pair]]:
    """Executions near in time and price, by two orders on opposite sides, of which the first filled first."""
    window = timedelta(seconds=terms.wash_seconds)
    found: dict[tuple[str, str], list[_Pair]] = {}
    for place, one in enumerate(done):
        for other in done[place + 1 :]:
            if other.at - one.at > window:
                break
            if one.side is other.side:
                continue
            if float(abs(one.price - other.price) / min(one.price, other.price)) * 1e4 > terms.wash_price_bps:
                continue
            if (other.order_id, one.order_id) in found:
                found[other.order_id, one.order_id].append((other, one))
            else:
                found.setdefault((one.order_id, other.order_id), []).append((one, other))
    return found


# -- layering ---------------------------------------------------------------------------------------------------------


def _layering(orders: Sequence[SentOrder], done: Sequence[_Execution], terms: SurveillanceTerms) -> Iterator[Suspicion]:
    filled: dict[str, Decimal] = defaultdict(Decimal)
    for one in done:
        filled[one.order_id] += one.quantity
    layers = [order for order in orders if _is_layer(order, filled[order.order_id], terms)]
    told: set[str] = set()
    for one in done:
        # Resting on the other side of the book while this was executed.
        opposite = [
            order for order in layers
            if order.side is not one.side and order.order_id not in told and _rests(order, one.at)
        ]  # fmt: skip
        if len(opposite) < terms.layer_orders:
            continue
        against = _executed_against(opposite, done, terms)
        total, executed = sum((order.quantity for order in opposite), Decimal(0)), _quantity(against)
        multiple = float(total / executed)
        if multiple >= terms.layer_multiple:
            told |= {order.order_id for order in opposite}
            ids = (*(order.order_id for order in opposite), *dict.fromkeys(part.order_id for part in against))
            yield Suspicion(
                Pattern.LAYERING, one.instrument, ids, opposite[0].sent_at, against[-1].at, multiple,
                terms.layer_multiple,
                f"{len(opposite)} limit orders for {plain(total)} {one.instrument} rested against an execution of "
                f"{plain(executed)} and were cancelled",
            )  # fmt: skip


def _executed_against(
    layers: Sequence[SentOrder], done: Sequence[_Execution], terms: SurveillanceTerms
) -> list[_Execution]:
    """What filled opposite to the layers while one of them rested, and what the same orders filled just after."""
    beside = {
        one.order_id for one in done
        if one.side is not layers[0].side and any(_rests(layer, one.at) for layer in layers)
    }  # fmt: skip
    end = max(layer.cancelled_at for layer in layers if layer.cancelled_at is not None)
    until = end + timedelta(seconds=terms.layer_seconds)
    return [one for one in done if one.order_id in beside and layers[0].sent_at <= one.at <= until]


def _rests(order: SentOrder, at: datetime) -> bool:
    return order.cancelled_at is not None and order.sent_at <= at <= order.cancelled_at


def _is_layer(order: SentOrder, filled: Decimal, terms: SurveillanceTerms) -> bool:
    return (
        order.order_type == PASSIVE
        and order.cancelled_at is not None
        and order.cancelled_at - order.sent_at <= timedelta(seconds=terms.layer_seconds)
        and float(filled / order.quantity) <= terms.layer_filled
    )


# -- marking the close ------------------------------------------------------------------------------------------------


def _marking_the_close(
    orders: Sequence[SentOrder], done: Sequence[_Execution], day: MarketDay, terms: SurveillanceTerms
) -> Iterator[Suspicion]:
    near = timedelta(minutes=terms.close_minutes)
    auction = {order.order_id for order in orders if order.order_type == AT_THE_CLOSE}
    for side in Side:
        # What is traded long after the close can no longer move it.
        late = [
            one for one in done
            if one.side is side and one.at >= day.close_at - near
            and (one.at <= day.close_at + near or one.order_id in auction)
        ]  # fmt: skip
        if not late or day.volume <= 0:
            continue
        share = float(_quantity(late)) / day.volume
        move_bps = side.sign * (day.close / day.price_before - 1) * 1e4
        if share >= terms.close_volume_fraction and move_bps >= terms.close_move_bps:
            ids = tuple(dict.fromkeys(one.order_id for one in late))
            yield Suspicion(
                Pattern.MARKING_THE_CLOSE, late[0].instrument, ids, late[0].at, late[-1].at, share,
                terms.close_volume_fraction,
                f"our {side}s at the close were {share:.1%} of the day's volume of {late[0].instrument}, which "
                f"closed {move_bps:.0f} bp our way",
            )  # fmt: skip


# -- momentum ignition ------------------------------------------------------------------------------------------------


def _momentum_ignition(
    orders: Sequence[SentOrder], done: Sequence[_Execution], terms: SurveillanceTerms
) -> Iterator[Suspicion]:
    for side in Side:
        pushing = [order for order in orders if order.side is side and order.order_type in ("market", "stop")]
        reached = 0
        for place in range(len(pushing)):
            burst = _burst(pushing[place:], terms)
            # Whole bursts only: of a part of one, what was traded back is a larger fraction.
            if len(burst) < terms.burst_orders or place + len(burst) <= reached:
                continue
            reached = place + len(burst)
            found = _ignition(burst, done, side, terms)
            if found is not None:
                yield found


def _burst(orders: Sequence[SentOrder], terms: SurveillanceTerms) -> Sequence[SentOrder]:
    """The orders from the first on that were sent within the window that it opens."""
    end = orders[0].sent_at + timedelta(seconds=terms.burst_seconds)
    return [order for order in orders if order.sent_at <= end]


def _ignition(
    burst: Sequence[SentOrder], done: Sequence[_Execution], side: Side, terms: SurveillanceTerms
) -> Suspicion | None:
    ids = {order.order_id for order in burst}
    pushed = [one for one in done if one.order_id in ids]
    if not pushed:
        return None
    first, last = pushed[0], pushed[-1]
    move_bps = side.sign * float(last.price / first.price - 1) * 1e4
    until = last.at + timedelta(minutes=terms.reversal_minutes)
    back = [one for one in done if one.side is not side and last.at < one.at <= until]
    returned = float(_quantity(back) / _quantity(pushed))
    if move_bps < terms.burst_move_bps or returned < terms.reversal_fraction:
        return None
    orders = (*(order.order_id for order in burst), *dict.fromkeys(one.order_id for one in back))
    return Suspicion(
        Pattern.MOMENTUM_IGNITION, first.instrument, orders, first.at, back[-1].at, move_bps, terms.burst_move_bps,
        f"{len(burst)} {side}s at the market moved {first.instrument} by {move_bps:.0f} bp, and {returned:.0%} of them "
        "were traded back at once",
    )  # fmt: skip
