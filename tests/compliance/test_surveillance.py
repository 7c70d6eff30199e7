"""Surveillance: of each pattern 20 streams that are it and 20 that just are not, in orders that we can really send.

The streams are made by builders from seeds. A limit order rests, fills in parts, is cancelled or replaced (which is an
order of its own); a market or stop order fills at once, in parts; an on-close order fills in the auction. Every order
fills in one to five parts, which follow each other within a second.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octopus.compliance.surveillance import (
    MarketDay,
    Pattern,
    SentOrder,
    SurveillanceTerms,
    Suspicion,
    blind,
    watch,
)
from octopus.core.orders import Fill, Side

OPEN = datetime(2024, 3, 5, 14, 30, tzinfo=UTC)
CLOSE = datetime(2024, 3, 5, 21, 0, tzinfo=UTC)
TERMS = SurveillanceTerms()
STREAMS = 20
PARTS = 5


@dataclass
class Venue:
    """A session of one instrument in which our orders have their effects."""

    chance: random.Random
    price: float = 100.0
    orders: list[SentOrder] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    volume: float = 1e6
    close: float = 100.0
    at: datetime = OPEN + timedelta(hours=2)

    def wait(self, seconds: float) -> Venue:
        self.at += timedelta(seconds=seconds)
        return self

    def send(self, side: Side, quantity: int, order_type: str) -> SentOrder:
        number = len(self.orders)
        self.orders.append(SentOrder(f"o{number}", "AAA", side, Decimal(quantity), order_type, self.at))
        return self.orders[-1]

    def fill(self, order: SentOrder, quantity: float, price: float, after: float = 0.2) -> None:
        """Executions of the order: a few, at one price; those of an auction at one instant."""
        count, auction = self.chance.randint(1, PARTS), order.order_type == "market_on_close"
        whole, at = Decimal(quantity).quantize(Decimal(1)), self.at + timedelta(seconds=0 if auction else after)
        sizes = [whole // count] * (count - 1)
        for size in [*sizes, whole - sum(sizes)]:
            if size > 0:
                self.fills.append(
                    Fill(
                        f"f{len(self.fills)}", order.order_id, "AAA", order.side, size, Decimal(str(round(price, 4))),
                        Decimal(0), at,
                    )
                )  # fmt: skip
                at += timedelta(seconds=0 if auction else self.chance.uniform(0, 0.2))

    def market(self, side: Side, quantity: int, price: float, order_type: str = "market") -> None:
        self.fill(self.send(side, quantity, order_type), quantity, price)

    def cancel(self, order: SentOrder) -> None:
        self.orders[self.orders.index(order)] = replace(order, cancelled_at=self.at)

    def replaced(self, order: SentOrder) -> SentOrder:
        """Cancelled, and sent again under another price: an order of its own."""
        self.cancel(order)
        return self.send(order.side, int(order.quantity), order.order_type)

    def noise(self) -> None:
        """What an ordinary day has besides: an auction order, a limit order that fills in parts, a lapsed one."""
        quantity = self.chance.randint(10, 90)
        self.at, kept = OPEN + timedelta(minutes=5), self.at
        early = self.send(Side.BUY, quantity, "limit")
        self.fill(early, quantity, self.price * 0.97)
        self.wait(900).send(Side.BUY, quantity, "limit")
        self.at = kept

    def found(self) -> list[Suspicion]:
        day = MarketDay(CLOSE, self.volume, self.price, self.close)
        return watch(self.orders, self.fills, {"AAA": day}, TERMS)


Builder = Callable[[Venue, random.Random], None]


def sides(chance: random.Random) -> tuple[Side, Side]:
    one = chance.choice(list(Side))
    return one, Side.SELL if one is Side.BUY else Side.BUY


# -- the patterns -----------------------------------------------------------------------------------------------------


def wash(venue: Venue, chance: random.Random) -> None:
    one, other = sides(chance)
    quantity = chance.randint(100, 900)
    resting = venue.send(one, quantity, "limit")
    if chance.random() < 0.5:
        resting = venue.wait(5).replaced(resting)
    venue.wait(chance.uniform(1, 40))
    venue.fill(resting, quantity, venue.price)
    back = quantity * chance.uniform(0.85, 1)
    crossing = venue.send(other, int(back), chance.choice(["market", "limit", "stop"]))
    venue.fill(crossing, int(back), venue.price * (1 + chance.uniform(-4, 4) / 1e4), chance.uniform(0.2, 15))


def near_wash(venue: Venue, chance: random.Random) -> None:
    one, other = sides(chance)
    quantity, kind = chance.randint(100, 900), chance.randrange(4)
    venue.market(one, quantity, venue.price)
    venue.wait(62 + chance.uniform(0.1, 30) if kind == 0 else chance.uniform(2, 30))
    price = venue.price * (1 + chance.choice([-1, 1]) * chance.uniform(6, 30) / 1e4) if kind == 1 else venue.price
    size = int(quantity * chance.uniform(0.3, 0.78)) if kind == 2 else quantity
    if kind == 3:
        # Sent against it, never filled, and cancelled.
        venue.cancel(venue.wait(3).send(other, size, "limit"))
    else:
        venue.market(other, size, price)


def shares_of(quantity: int, count: int, chance: random.Random) -> list[int]:
    """So many orders for all of it, none of which is most of it."""
    weights = [chance.uniform(1, 1.5) for _ in range(count)]
    return [int(quantity * weight / sum(weights)) for weight in weights]


def crossing(venue: Venue, side: Side, quantity: int, price: float, chance: random.Random) -> None:
    """An order that fills, at once or after it rested; one that rests may have been replaced."""
    sent = venue.send(side, quantity, chance.choice(["market", "limit", "stop"]))
    if sent.order_type == "limit" and chance.random() < 0.5:
        sent = venue.wait(1).replaced(sent)
    venue.fill(sent, quantity, price)


def split_wash(venue: Venue, chance: random.Random) -> None:
    """One order against several, before or after it, or several against several."""
    one, other = sides(chance)
    quantity = chance.randint(300, 900)
    whole = [quantity] if chance.random() < 0.7 else shares_of(quantity, 2, chance)
    legs = [(one, size) for size in whole]
    back = [(other, size) for size in shares_of(int(quantity * chance.uniform(0.87, 1)), chance.randint(3, 5), chance)]
    for side, size in [*back, *legs] if chance.random() < 0.3 else [*legs, *back]:
        # The auction's and the book's prices are a tick or two from each other.
        crossing(venue, side, size, venue.price * (1 + (side is other) * chance.uniform(-4, 4) / 1e4), chance)
        venue.wait(chance.uniform(0.5, 6))


def near_split_wash(venue: Venue, chance: random.Random) -> None:
    one, other = sides(chance)
    quantity, kind = chance.randint(300, 900), chance.randrange(6)
    crossing(venue, one, quantity, venue.price, chance)
    parts = {0: chance.uniform(0.3, 0.76), 1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: chance.uniform(1.35, 2)}[kind]
    for number, size in enumerate(shares_of(int(quantity * parts), 4 if kind == 5 else 3, chance)):
        # One comes within the window, the others when it is over.
        venue.wait(62 if kind == 2 and number == 1 else chance.uniform(1, 6))
        if kind == 3 and number > 0:
            venue.cancel(venue.wait(2).send(other, size, "limit"))
            continue
        price = venue.price * (1 + chance.choice([-1, 1]) * chance.uniform(6, 30) / 1e4) if kind == 1 else venue.price
        # More of the same is a schedule.
        crossing(venue, one if kind == 4 else other, size, price, chance)


def layering(venue: Venue, chance: random.Random) -> None:
    one, other = sides(chance)
    count, quantity = chance.randint(3, 6), chance.randint(300, 900)
    layers = [venue.wait(chance.uniform(0.2, 3)).send(one, quantity, "limit") for _ in range(count)]
    if chance.random() < 0.5:
        venue.fill(layers[0], quantity * 0.05, venue.price * 0.99)
    venue.wait(chance.uniform(1, 10))
    venue.market(
        other, quantity * count // chance.randint(4, 9), venue.price * 1.002, chance.choice(["market", "limit"])
    )
    for layer in layers:
        venue.wait(chance.uniform(0.2, 3)).cancel(layer)


def near_layering(venue: Venue, chance: random.Random) -> None:
    one, other = sides(chance)
    kind, quantity = chance.randrange(5), chance.randint(300, 900)
    count = 2 if kind == 0 else 4
    layers = [venue.wait(0.5).send(one, quantity, "limit") for _ in range(count)]
    if kind == 1:
        # They were meant: a part of each fills.
        for layer in layers:
            venue.fill(layer, quantity * chance.uniform(0.15, 0.6), venue.price * 0.99)
    venue.wait(70 if kind == 2 else 5)
    opposite = quantity * count // 2 if kind == 3 else quantity // 2
    if kind != 4:
        venue.market(other, opposite, venue.price * 1.002)
    for layer in layers:
        venue.wait(0.5).cancel(layer)
    if kind == 4:
        venue.wait(2).market(other, opposite, venue.price * 1.002)


def marking(venue: Venue, chance: random.Random) -> None:
    side, _ = sides(chance)
    total = int(venue.volume * chance.uniform(0.055, 0.3))
    venue.close = venue.price * (1 + side.sign * chance.uniform(35, 200) / 1e4)
    if chance.random() < 0.5:
        auction = venue.send(side, total, "market_on_close")
        venue.at = CLOSE
        venue.fill(auction, total, venue.close)
    else:
        venue.at = CLOSE - timedelta(minutes=9)
        for _ in range(3):
            venue.wait(chance.uniform(60, 150)).market(
                side, total // 3 + 1, venue.close, chance.choice(["market", "limit"])
            )


def near_marking(venue: Venue, chance: random.Random) -> None:
    side, _ = sides(chance)
    kind, sign = chance.randrange(4), 1
    total = int(venue.volume * (chance.uniform(0.02, 0.048) if kind == 0 else chance.uniform(0.06, 0.2)))
    move = chance.uniform(5, 28) if kind == 1 else chance.uniform(40, 100)
    sign = -1 if kind == 2 else 1
    venue.close = venue.price * (1 + sign * side.sign * move / 1e4)
    auction = venue.send(side, total, "market_on_close" if kind != 3 else "market")
    # The fourth kind trades as much, earlier.
    venue.at = CLOSE - timedelta(minutes=chance.uniform(11, 60)) if kind == 3 else CLOSE
    venue.fill(auction, total, venue.close)


def ignition(venue: Venue, chance: random.Random) -> None:
    one, other = sides(chance)
    count, quantity = chance.randint(4, 8), chance.randint(100, 500)
    move = chance.uniform(25, 90) / 1e4
    for number in range(count):
        price = venue.price * (1 + one.sign * move * number / (count - 1))
        venue.wait(chance.uniform(0.5, 6)).market(one, quantity, price, chance.choice(["market", "stop"]))
    venue.wait(chance.uniform(60, 500))
    back = int(quantity * count * chance.uniform(0.6, 1))
    venue.market(other, back, venue.price * (1 + one.sign * move * 1.2), chance.choice(["market", "limit"]))


def near_ignition(venue: Venue, chance: random.Random) -> None:
    one, other = sides(chance)
    kind, quantity = chance.randrange(5), chance.randint(100, 500)
    count = 3 if kind == 0 else 5
    move = chance.uniform(3, 17) / 1e4 if kind == 1 else chance.uniform(30, 60) / 1e4
    for number in range(count):
        price = venue.price * (1 + one.sign * move * number / (count - 1))
        # Worked over the hour in the third kind, as a schedule does.
        venue.wait(200 if kind == 2 else 2).market(one, quantity, price)
    venue.wait(620 if kind == 3 else 200)
    back = int(quantity * count * (chance.uniform(0.1, 0.45) if kind == 4 else 0.9))
    venue.market(other, back, venue.price * (1 + one.sign * move * 1.3))


STREAM_OF: list[tuple[Pattern, Builder, Builder]] = [
    (Pattern.WASH_TRADE, wash, near_wash),
    (Pattern.WASH_TRADE, split_wash, near_split_wash),
    (Pattern.LAYERING, layering, near_layering),
    (Pattern.MARKING_THE_CLOSE, marking, near_marking),
    (Pattern.MOMENTUM_IGNITION, ignition, near_ignition),
]
"""Of each pattern the streams that are it, and those that only come near."""


def stream(builder: Builder, seed: int) -> Venue:
    chance = random.Random(f"{builder.__name__}-{seed}")
    venue = Venue(chance)
    venue.noise()
    builder(venue, chance)
    return venue


def patterns(venue: Venue) -> set[Pattern]:
    return {finding.pattern for finding in venue.found()}


@pytest.mark.parametrize(("pattern", "positive", "near"), STREAM_OF)
def test_every_pattern_is_found_and_nothing_that_only_comes_near(
    pattern: Pattern, positive: Builder, near: Builder
) -> None:
    missed = [seed for seed in range(STREAMS) if pattern not in patterns(stream(positive, seed))]
    alarms = [seed for seed in range(STREAMS) if patterns(stream(near, seed))]
    assert (missed, alarms) == ([], [])


@given(
    builder=st.sampled_from([builder for _, *pair in STREAM_OF for builder in pair]),
    seed=st.integers(0, STREAMS - 1),
    data=st.data(),
)
def test_in_how_many_parts_an_order_is_executed_changes_no_finding(
    builder: Builder, seed: int, data: st.DataObject
) -> None:
    venue = stream(builder, seed)
    whole, parted = venue.found(), []
    for fill in venue.fills:
        weights = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=PARTS))
        sizes = [(fill.quantity * weight / sum(weights)).quantize(Decimal("0.001")) for weight in weights[1:]]
        for size in (fill.quantity - sum(sizes), *sizes):
            name = data.draw(st.uuids())
            parted.append(replace(fill, fill_id=str(name), quantity=size))
    venue.fills = parted
    assert venue.found() == whole


def order(name: str, side: Side, quantity: int, order_type: str = "market", lives: float | None = None) -> SentOrder:
    """One that was sent at the open and is cancelled after so many seconds, if it is."""
    cancelled = None if lives is None else OPEN + timedelta(seconds=lives)
    return SentOrder(name, "AAA", side, Decimal(quantity), order_type, OPEN, cancelled)


def parts(one: SentOrder, *sizes: int, price: str = "100", after: float = 1) -> list[Fill]:
    """Fills of these sizes, a second from each other."""
    return [
        Fill(
            f"{one.order_id}-{place}", one.order_id, "AAA", one.side, Decimal(size), Decimal(price), Decimal(0),
            OPEN + timedelta(seconds=after + place),
        )
        for place, size in enumerate(sizes)
    ]  # fmt: skip


def test_a_wash_trade_in_parts_is_one_finding_and_other_prices_do_not_hide_it() -> None:
    bought, sold = order("b", Side.BUY, 1500), order("s", Side.SELL, 900)
    fills = [*parts(bought, 600, price="97", after=0), *parts(bought, 900), *parts(sold, 300, 300, 300, after=5)]
    (finding,) = watch([bought, sold], [replace(f, fill_id=str(n)) for n, f in enumerate(fills)], {}, TERMS)
    assert (finding.pattern, finding.orders, finding.value) == (Pattern.WASH_TRADE, ("b", "s"), 0.0)
    assert finding.message == "bought and sold 900 AAA within 6 s, 0.0 bp apart"


def test_one_order_against_several_is_one_finding_that_names_them_all() -> None:
    bought, sold = order("b", Side.BUY, 900), [order(f"s{number}", Side.SELL, 300) for number in range(3)]
    fills = [
        *parts(bought, 900, after=0),
        *(fill for n, one in enumerate(sold) for fill in parts(one, 300, after=10 * n + 5)),
    ]
    (finding,) = watch([bought, *sold], fills, {}, TERMS)
    assert finding.orders == ("b", "s0", "s1", "s2")
    assert finding.message == "bought and sold 900 AAA in 4 orders within 25 s, 0.0 bp apart"
    assert watch([bought, *sold[:2]], fills[:3], {}, TERMS) == []


@pytest.mark.parametrize("sizes", [(900,), (300, 300, 300), (100,) * 9], ids=len)
@pytest.mark.parametrize(("orders", "found"), [(3, 0), (6, 1)])
def test_layers_are_compared_with_all_that_was_executed_against_them(
    sizes: tuple[int, ...], orders: int, found: int
) -> None:
    """The parts that fill after the layers were taken back belong to the execution too."""
    layers = [order(f"l{number}", Side.BUY, 450, "limit", lives=4) for number in range(orders)]
    sold = order("s", Side.SELL, 900)
    findings = watch([*layers, sold], parts(sold, *sizes), {}, TERMS)
    assert [(one.pattern, one.value) for one in findings] == [(Pattern.LAYERING, 3.0)] * found


def test_recall_and_precision_by_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    """The table: of 20 streams of each pattern and 20 near misses, how many were found, and how many wrongly."""
    told = {builder: [patterns(stream(builder, s)) for s in range(STREAMS)] for _, *of in STREAM_OF for builder in of}
    assert {pattern for pattern, *_ in STREAM_OF} == set(Pattern)
    lines = [f"{'streams':20} {'found':>7} {'wrongly':>8} {'recall':>7} {'precision':>9}"]
    for pattern, positive, _ in STREAM_OF:
        others = [
            builder for kind, made, near in STREAM_OF for builder in (made, near) if (kind, builder) != (pattern, made)
        ]
        found = sum(pattern in item for item in told[positive])
        wrongly = sum(pattern in item for builder in others for item in told[builder])
        recall, precision = found / STREAMS, found / (found + wrongly)
        lines.append(f"{positive.__name__:20} {found:>4}/{STREAMS} {wrongly:>8} {recall:>7.2f} {precision:>9.2f}")
        assert (recall, precision) == (1, 1), "\n".join(lines)
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def test_a_finding_names_its_orders_and_is_the_same_at_a_second_look() -> None:
    venue = stream(layering, 1)
    (finding,) = venue.found()
    assert finding.finding_id == venue.found()[0].finding_id
    assert len(finding.orders) >= 4
    assert finding.value >= finding.limit == TERMS.layer_multiple
    assert "rested against an execution" in finding.message


@settings(max_examples=60, deadline=None)
@given(minutes=st.floats(-60, 600), auction=st.booleans())
@example(minutes=10.0, auction=False)
@example(minutes=0.0, auction=False)
@example(minutes=300.0, auction=True)
def test_what_is_traded_long_after_the_close_did_not_mark_it(minutes: float, auction: bool) -> None:
    venue = Venue(random.Random(1))
    venue.close = venue.price * 1.01
    order = venue.send(Side.BUY, int(venue.volume * 0.2), "market_on_close" if auction else "limit")
    venue.at = CLOSE + timedelta(minutes=minutes)
    at = venue.at
    venue.fills.append(Fill("f", order.order_id, "AAA", order.side, order.quantity, Decimal(101), Decimal(0), at))
    marked = [one for one in venue.found() if one.pattern is Pattern.MARKING_THE_CLOSE]
    near = timedelta(minutes=TERMS.close_minutes)
    assert bool(marked) is (CLOSE - near <= at and (auction or at <= CLOSE + near))


def test_an_instrument_whose_day_is_unknown_is_named() -> None:
    venue = stream(marking, 1)
    assert watch(venue.orders, venue.fills, {}, TERMS) == []
    assert blind(venue.fills, {}) == ["AAA"]
