"""Keys that have to stand in an address, kept out of every log.

Belongs here: hiding them from what HTTP libraries log. Does not: reading secrets (secrets.py), and keys in headers,
which these libraries log nowhere.

urllib3 logs the address of every request at level DEBUG, and httpx at INFO. Some services take their key nowhere else.
"""

from __future__ import annotations

import logging
from urllib.parse import quote_plus

HIDDEN = "(hidden)"
LOGGERS = ("urllib3.connectionpool", "urllib3.util.retry", "httpx", "httpx2")
"""Those that log addresses. A filter is no child's: each has its own."""

_kept: set[str] = set()


class _Hiding(logging.Filter):
    """Lets every record through, without what must not be in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        kept = [secret for secret in tuple(_kept) if secret in said]
        if kept:
            # The longest first: one may be a part of another.
            for secret in sorted(kept, key=len, reverse=True):
                said = said.replace(secret, HIDDEN)
            record.msg, record.args = said, None
        return True


_HIDING = _Hiding()


def keep_out_of_logs(secret: str) -> None:
    """From now on, in this process, ``secret`` is hidden wherever a library logs an address, as it is and quoted."""
    if secret:
        _kept.update((secret, quote_plus(secret)))
        for name in LOGGERS:
            # The same filter counts once.
            logging.getLogger(name).addFilter(_HIDING)
