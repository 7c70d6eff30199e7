"""Net asset value: what the account was worth, is worth, and why it changed.

Belongs here: striking the NAV of one session from a book and prices. Does not: the book itself (book.py), performance
statistics (octopus/backtest), storing.

All arithmetic is exact `Decimal`: the parts add up to the change in value with no residual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from octopus.core.errors import MissingDataError, OctopusError
from octopus.core.orders import Fill
from octopus.execution.book import OF_FILL, Entry, EntryKind, cash_of, positions_of

_EXACT = Context(prec=60)
"""Enough digits that no product or sum of ledger figures (20 digits before and 8 after the point) is rounded."""


_PAYMENTS = (EntryKind.DIVIDEND, EntryKind.SPIN_OFF)
_EXCHANGES = (EntryKind.SPLIT, EntryKind.SYMBOL_CHANGE, EntryKind.DELISTING)
_TRANSFERS = (EntryKind.MANUAL, EntryKind.ADOPTED)


@dataclass(frozen=True)
class Holdings:
    """Cash, shares and the price of each share, at the end of a session.

    Attributes:
        prices: at least every held instrument; others are ignored.
    """

    cash: Decimal
    positions: Mapping[str, Decimal]
    prices: Mapping[str, Decimal]

    @property
    def equity(self) -> Decimal:
        """Cash plus marked positions.

        Raises:
            MissingDataError: a held instrument has no price.
        """
        with localcontext(_EXACT):
            return self.cash + sum(
                (shares * price_of(name, self.prices) for name, shares in self.positions.items()), Decimal(0)
            )


@dataclass(frozen=True)
class NavStatement:
    """Why the value changed over a session: ``opening + price_pnl - fees + dividends + flows == closing``.

    Attributes:
        price_pnl: from prices moving while shares were held, from fills' prices to the close, splits' fractions, a
            delisting's last step, and of trades by hand what their shares are worth beyond the cash they took.
        fees: commissions and charges, positive; negative where more interest was received. Those of a trade by hand
            are in ``price_pnl``: it is told in one amount.
        dividends: received, with what spun-off shares were worth; negative when paid on a short.
        flows: deposits less withdrawals, adopted holdings, and what a person booked of shares or cash that moved by
            themselves; shares at closing prices.
    """

    opening: Decimal
    price_pnl: Decimal
    fees: Decimal
    dividends: Decimal
    flows: Decimal
    closing: Decimal
    holdings: Holdings


class NavIdentityError(OctopusError):
    """The parts do not add up: a fill or an entry changed cash or shares in a way that no part explains."""


def strike_nav(
    opening: Holdings, fills: Sequence[Fill], entries: Sequence[Entry], prices: Mapping[str, Decimal]
) -> NavStatement:
    """NAV at the end of a session.

    The parts are computed from each movement, the closing value from the resulting holdings: that they agree is
    checked.

    Args:
        opening: holdings at the end of the session before, at that session's prices.
        fills, entries: everything since.
        prices: this session's closing prices of every instrument held or traded.

    Raises:
        MissingDataError: an instrument has no price.
        NavIdentityError: the parts do not add up.
    """
    with localcontext(_EXACT):
        closing = _closing(opening, fills, entries, prices)
        statement = NavStatement(
            opening=opening.equity,
            price_pnl=_price_pnl(opening, fills, entries, prices),
            fees=sum((fill.fees for fill in fills), Decimal(0))
            - sum((e.cash for e in entries if e.kind is EntryKind.CHARGE), Decimal(0)),
            dividends=sum((e.cash for e in entries if e.kind in _PAYMENTS), Decimal(0)),
            flows=_flows(entries, prices),
            closing=closing.equity,
            holdings=closing,
        )
        parts = statement.opening + statement.price_pnl - statement.fees + statement.dividends + statement.flows
        if parts != statement.closing:
            raise NavIdentityError(
                f"closing value {statement.closing} is not opening plus its parts {parts}; "
                "reconcile the account's entries first"
            )
        return statement


def price_of(instrument: str, prices: Mapping[str, Decimal]) -> Decimal:
    """The price of ``instrument``; raises `MissingDataError` without one."""
    try:
        return prices[instrument]
    except KeyError:
        raise MissingDataError(f"no price for {instrument}, which is held or traded; ingest its bar first") from None


def _closing(
    opening: Holdings, fills: Iterable[Fill], entries: Iterable[Entry], prices: Mapping[str, Decimal]
) -> Holdings:
    moved = positions_of(fills, entries)
    names = sorted({*opening.positions, *moved})
    shares = {name: opening.positions.get(name, Decimal(0)) + moved.get(name, Decimal(0)) for name in names}
    held = {name: quantity for name, quantity in shares.items() if quantity}
    return Holdings(
        cash=opening.cash + cash_of(fills, entries),
        positions=held,
        prices={name: price_of(name, prices) for name in held},
    )


def _price_pnl(
    opening: Holdings, fills: Sequence[Fill], entries: Sequence[Entry], prices: Mapping[str, Decimal]
) -> Decimal:
    held = sum(
        (
            shares * (price_of(name, prices) - price_of(name, opening.prices))
            for name, shares in opening.positions.items()
        ),
        Decimal(0),
    )
    traded = sum(
        (fill.side.sign * fill.quantity * (price_of(fill.instrument, prices) - fill.price) for fill in fills),
        Decimal(0),
    )
    # A split alone makes no one richer: the shares it adds are worth what the fall of the price takes. Nor does another
    # name; what a delisting pays stands for the shares it takes, as what a trade by hand brought does.
    exchanged = sum((_worth(entry, prices) for entry in (*_exchanges(entries), *_trades_by_hand(entries))), Decimal(0))
    return held + traded + exchanged


def moved_by_owner(entries: Sequence[Entry]) -> list[Entry]:
    """Those whose worth is a flow: deposits and withdrawals, adopted holdings, shares and cash that moved alone."""
    trades = {entry.entry_id for entry in _trades_by_hand(entries)}
    return [e for e in entries if e.kind.is_flow or (e.kind in _TRANSFERS and e.entry_id not in trades)]


def _flows(entries: Sequence[Entry], prices: Mapping[str, Decimal]) -> Decimal:
    return sum((_worth(entry, prices) for entry in moved_by_owner(entries)), Decimal(0))


def _exchanges(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.kind in _EXCHANGES and entry.instrument is not None]


def _trades_by_hand(entries: Sequence[Entry]) -> list[Entry]:
    """Entries by hand that are trades: fills that no order of ours caused, and shares that cash was paid for.

    Shares alone, and cash alone, are the owner's: moved in, or out.
    """
    return [
        one for one in entries
        if one.kind is EntryKind.MANUAL and one.instrument is not None
        and (one.entry_id.startswith(OF_FILL) or one.cash)
    ]  # fmt: skip


def _worth(entry: Entry, prices: Mapping[str, Decimal]) -> Decimal:
    """Cash of an entry, and its shares at the close."""
    shares = Decimal(0) if entry.instrument is None else entry.quantity * price_of(entry.instrument, prices)
    return entry.cash + shares
