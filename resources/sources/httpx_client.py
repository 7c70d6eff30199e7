"""HTTP client for vendors' libraries that are built on httpx.

Belongs here: what http.py does for requests: where requests go, how long they may take, what they brought. Does not:
any vendor's answers, sending again (patient_transport.py).
"""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from resources.sources.base import rebased
from resources.sources.http import Access
from resources.sources.patient_transport import PatientTransport


class VendorClient(httpx.Client):
    """A client that sends every request to ``access.base_url`` (None: as addressed), with its timeout and patience,
    and hashes the answers; errors begin with ``source``. The library on top should send nothing again itself."""

    def __init__(self, source: str, access: Access) -> None:
        super().__init__(
            timeout=access.timeout_s, follow_redirects=True, transport=PatientTransport(access.persistence(source))
        )
        self._access = access
        self._digest = hashlib.sha256()

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        if self._access.base_url is not None:
            request.url = httpx.URL(rebased(str(request.url), self._access.base_url))
            request.headers["Host"] = request.url.netloc.decode("ascii")
        # A library's longer wish is shortened.
        request.extensions["timeout"] = httpx.Timeout(self._access.timeout_s).as_dict()
        response = super().send(request, **options)
        self._digest.update(response.read())
        return response

    @property
    def payload_hash(self) -> str:
        """SHA-256 (first 32 hex digits) of all bodies received so far."""
        return self._digest.hexdigest()[:32]
