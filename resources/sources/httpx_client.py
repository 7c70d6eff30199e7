"""HTTP client for vendors' libraries that are built on httpx.

Belongs here: what http.py does for requests: where requests go, how long they may take, what they brought. Does not:
any vendor's answers; repeating requests (the libraries on httpx do that themselves).
"""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from resources.sources.base import rebased
from resources.sources.http import Access


class VendorClient(httpx.Client):
    """A client that sends every request to ``access.base_url`` (None: as addressed), with its timeout, and hashes the
    answers."""

    def __init__(self, access: Access) -> None:
        super().__init__(timeout=access.timeout_s, follow_redirects=True)
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
