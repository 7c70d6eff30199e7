"""What the decision's assets read: the panel as of a session, and what is prepared from it.

Belongs here: reading and preparing once for several assets of a run. Does not: anything that one asset alone needs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields
from datetime import date

from octopus.decision import DecisionConfig, Prepared, prepare

from octopus.core.ids import fingerprint
from octopus.core.panel import Panel
from resources.settings import Settings
from resources.warehouse.store import Warehouse

_KEPT = 2
_prepared: OrderedDict[str, Prepared] = OrderedDict()


def panel(settings: Settings, warehouse: Warehouse, session: date) -> Panel:
    """What was known at the decision of ``session``, from the configured source."""
    return warehouse.panel(
        settings.universe.market_data,
        settings.sessions.decision_utc(session),
        settings.sessions,
        warehouse.sentiment_model(settings.sentiment_family),
    )


def panel_fingerprint(of: Panel) -> str:
    """Of every value in the panel."""
    return fingerprint(*(getattr(of, item.name) for item in fields(of)))


def prepared(of: Panel, config: DecisionConfig) -> Prepared:
    """Features and signals of a panel; the last few are kept, told apart by content: several assets need them."""
    key = fingerprint(panel_fingerprint(of), config.model_dump(mode="json"))
    if key not in _prepared:
        _prepared[key] = prepare(of, config)
        while len(_prepared) > _KEPT:
            _prepared.popitem(last=False)
    _prepared.move_to_end(key)
    return _prepared[key]
