"""Dagster resources: each is made when a run needs it, from the settings of that moment.

Belongs here: joining settings to what both code locations use. Does not: research's sources and MLflow
(research_factories.py), which execution must be able to do without. Nothing here runs at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import dagster as dg

from resources.brokers.base import Broker
from resources.settings import Settings, load_settings
from resources.trading import Trading, open_broker, trading_of
from resources.trading import trading_clock as trading_clock
from resources.warehouse.connection import Role
from resources.warehouse.store import Warehouse


def current_settings() -> Settings:
    """Settings as the files and variables are now."""
    return load_settings(os.environ)


def broker(settings: Settings) -> Broker:
    """The account's broker."""
    return open_broker(settings, trading_clock(settings))


def trading(settings: Settings) -> Trading:
    """Everything that acts on the account."""
    return trading_of(settings)


def lazily(make: Callable[[Settings], object], description: str) -> dg.ResourceDefinition:
    """A resource that is made from the settings when a run first needs it."""
    return dg.ResourceDefinition(lambda _context: make(current_settings()), description=description)


def warehouse_as(role: Role) -> dg.ResourceDefinition:
    """The warehouse in one role."""
    return lazily(lambda settings: Warehouse(settings.database_url, role), f"The warehouse, in the role {role.value}")
