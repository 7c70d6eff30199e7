"""An answer that nobody can read is an error of the order path, whatever the reader stumbled over.

Belongs here: that translation, at an adapter's edge. Does not: reading (answers.py, and each adapter).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from resources.brokers.base import BrokerError

P = ParamSpec("P")
T = TypeVar("T")
_STUMBLES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def readable(venue: str, error_of: type[BrokerError] = BrokerError) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a method of the adapter of ``venue`` raise ``error_of`` where an answer cannot be read.

    A send whose answer cannot be read is uncertain: it may stand.
    """

    def guard(method: Callable[P, T]) -> Callable[P, T]:
        @wraps(method)
        def guarded(*given: P.args, **named: P.kwargs) -> T:
            try:
                return method(*given, **named)
            except _STUMBLES as stumble:
                what = " ".join(f"{type(stumble).__name__}: {stumble}".split())[:200]
                raise error_of(
                    f"{venue}: an answer cannot be read ({what.encode('ascii', 'replace').decode()}); ask again, and "
                    "update the adapter if it stays so"
                ) from stumble

        return guarded

    return guard
