"""Dagster resources: each is made when a run needs it, from the settings of that moment.

Belongs here: joining settings to what both code locations use. Does not: research's sources and MLflow
(research_factories.py), which execution must be able to do without. Nothing here runs at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import dagster as dg

from resources.brokers.base import Broker
from resources.clock import Clock, ReplayClock, WallClock
from resources.settings import Settings, load_settings
from resources.trading import Trading, open_broker
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse


def current_settings() -> Settings:
    """Settings as the files and variables are now."""
    return load_settings(os.environ)


def trading_clock(settings: Settings) -> Clock:
    """Replay on a recording, the wall clock on live data."""
    return ReplayClock(settings.database_url, settings.sessions) if settings.recorded else WallClock()


def broker(settings: Settings) -> Broker:
    """The account's broker."""
    return open_broker(settings, trading_clock(settings))


def trading(settings: Settings) -> Trading:
    """Everything that acts on the account."""
    clock = trading_clock(settings)
    return Trading(settings, clock, open_broker(settings, clock))


def lazily(make: Callable[[Settings], object], description: str) -> dg.ResourceDefinition:
    """A resource that is made from the settings when a run first needs it."""
    return dg.ResourceDefinition(lambda _context: make(current_settings()), description=description)


def warehouse_as(role: Role) -> dg.ResourceDefinition:
    """The warehouse in one role."""
    return lazily(lambda settings: Warehouse(settings.database_url, role), f"The warehouse, in the role {role.value}")
