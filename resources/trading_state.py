"""The kill switch as it counts now, for whoever asks.

Belongs here: where its file is, and reading its state with the file. Does not: turning it (kill_switch.py, the command
line), the file itself (halt_file.py), how file and account's state count together (warehouse/order_store.py).
"""

from __future__ import annotations

from resources.halt_file import HaltFile
from resources.settings import Settings
from resources.warehouse.order_store import OrderStore, TradingStatus


def halt_file(settings: Settings) -> HaltFile:
    """The kill switch that works without the database."""
    return HaltFile.in_home(settings.home)


def trading_status(settings: Settings, account: str) -> TradingStatus:
    """What stops more: the account's state in the database, or a halt that waits in the file."""
    with OrderStore.opened(settings.database_url, halts=halt_file(settings)) as store:
        return store.trading_status(account)
