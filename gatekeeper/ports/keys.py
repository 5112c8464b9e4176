"""Fetching an issuer's key set. What may be asked stands in the reviewed policy; who asks, and how often, is `deploy.keysets`."""

from __future__ import annotations

from typing import Protocol


class KeyFetch(Protocol):
    """One GET of one https URL."""

    async def fetch(self, url: str) -> bytes:
        """The body of a 200 answer, whole. Bounded in bytes and time by the adapter; no redirect is followed, nothing is tried twice.

        Raises `Unavailable` for everything else: not reached, TLS not good, another status, too long, too slow. Cancelling it closes the
        connection.
        """
        ...
