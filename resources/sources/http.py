"""HTTP sessions for vendors' clients that let us hand them one.

Belongs here: where requests go, how long they may take, and what they brought. Does not: any vendor's answers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import requests

from resources.sources.base import rebased


class VendorSession(requests.Session):
    """A session that sends every request to ``base_url`` (None: as addressed), with a timeout, and hashes the answers.

    Args:
        timeout_s: longest wait for a connection and for each read, seconds; a client's longer wish is shortened.
    """

    def __init__(self, base_url: str | None = None, timeout_s: float = 20.0) -> None:
        super().__init__()
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._digest = hashlib.sha256()

    def request(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = self._timeout_s
        address = url.decode() if isinstance(url, bytes) else url
        response = super().request(method, rebased(address, self._base_url), *args, **kwargs)
        self._digest.update(response.content)
        return response

    @property
    def payload_hash(self) -> str:
        """SHA-256 (first 32 hex digits) of all bodies received so far."""
        return self._digest.hexdigest()[:32]


@dataclass(frozen=True)
class Access:
    """How a vendor is reached.

    Attributes:
        base_url: sends every request there instead; None: the vendor itself.
        timeout_s: longest wait for a connection and for each read, seconds.
    """

    base_url: str | None = None
    timeout_s: float = 20.0

    def session(self) -> VendorSession:
        """A new session with this access."""
        return VendorSession(self.base_url, self.timeout_s)
