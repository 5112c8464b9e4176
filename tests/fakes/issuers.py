"""Issuers that publish their keys: answers, faults, and how often they were asked. A clock that a test sets."""

import trio

from gatekeeper.ports.errors import Unavailable


class FakeKeyFetch:
    """`KeyFetch`. `sets` maps a URL to bytes; `away` names what goes wrong; `gate`, when set, holds every answer back."""

    def __init__(self, sets=None):
        self.sets, self.asked, self.away, self.gate = dict(sets or {}), [], "", None

    async def fetch(self, url):
        self.asked.append(url)
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise Unavailable("identity-unavailable", self.away)
        if url not in self.sets:
            raise Unavailable("identity-unavailable", "the issuer answers with HTTP 404")
        return self.sets[url]


class HandClock:
    """Seconds, moved by hand."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now
