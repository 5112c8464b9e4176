"""Key sets that are fetched: kept while fresh, kept a while longer while the issuer is away, asked for again when a token names an unknown key.

A removed key stops within `FRESH_S`; while the issuer cannot be read, within `STALE_S`. After that its tokens are neither good nor bad:
``identity-unavailable``. One fetch of a set is under way at any time, and whoever needs it waits for that one. However many tokens name
unknown keys, an issuer is asked once in `UNKNOWN_S`; one that fails is asked again after `RETRY_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from gatekeeper.ports.errors import PortError, Unavailable
from gatekeeper.ports.keys import KeyFetch
from gatekeeper.verify.errors import MalformedKey
from gatekeeper.verify.token import KeySet, parse_key_set

FRESH_S: Final = 600.0
STALE_S: Final = 3600.0
"""Seconds after the last good fetch."""
UNKNOWN_S: Final = 60.0
RETRY_S: Final = 10.0
FETCH_S: Final = 6.0
"""The longest that anybody waits for a fetch, whatever the adapter does."""
MOST: Final = 256
"""Sets kept; the policy names far fewer, and a changed one leaves the old ones behind."""
_CAUSE: Final = "identity-unavailable"


@dataclass(frozen=True)
class KeySource:
    """One fetched set: where it lies, and which of its keys are taken. All of it from the reviewed policy."""

    url: str
    algorithms: tuple[str, ...]
    use: str


@dataclass
class _Row:
    keys: KeySet | None = None
    fetched_at: float = 0.0
    tried_at: float | None = None
    trouble: str = ""
    """why the last fetch failed; empty after a good one"""
    fetching: trio.Event | None = field(default=None, repr=False)


class KeySets:
    """The cache. `clock` is in seconds and never goes back (a monotonic one)."""

    def __init__(self, fetch: KeyFetch, *, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._rows: dict[KeySource, _Row] = {}

    async def ready(self, source: KeySource, kid: str) -> None:
        """Fetch the set if it has to be fetched to say something about this key; returns when `held` can answer. Raises nothing."""
        row = self._row(source)
        # A known key waits for nobody: else whoever names unknown ones would have everybody wait for a slow issuer.
        while row.fetching is not None and not self._knows(row, kid):
            await row.fetching.wait()
        if not self._wanted(row, kid):
            return
        row.fetching, row.tried_at = trio.Event(), self._clock()
        try:
            # Shielded: whoever hangs up would else decide whether the issuer's keys are known, for everybody.
            with trio.CancelScope(shield=True):
                await self._refetch(source, row)
        finally:
            row.fetching.set()
            row.fetching = None

    def held(self, source: KeySource, kid: str) -> KeySet:
        """The keys to verify with. Raises `Unavailable` where nothing can be said: no good set, too old a one, or an unknown key while away."""
        row = self._row(source)
        if row.keys is None or self._clock() - row.fetched_at >= STALE_S:
            raise Unavailable(_CAUSE, f"the issuer's keys cannot be read, and no set is young enough ({row.trouble or 'not asked yet'})")
        if kid not in row.keys and row.trouble:
            raise Unavailable(_CAUSE, f"the key is not of the last good set, and the issuer's keys cannot be read now ({row.trouble})")
        return row.keys

    def _row(self, source: KeySource) -> _Row:
        if source not in self._rows:
            if len(self._rows) >= MOST:
                del self._rows[next(iter(self._rows))]
            self._rows[source] = _Row()
        return self._rows[source]

    def _knows(self, row: _Row, kid: str) -> bool:
        return row.keys is not None and kid in row.keys and self._clock() - row.fetched_at < FRESH_S

    def _wanted(self, row: _Row, kid: str) -> bool:
        now = self._clock()
        since_try = float("inf") if row.tried_at is None else now - row.tried_at
        if row.keys is None or now - row.fetched_at >= FRESH_S:
            return since_try >= RETRY_S
        return kid not in row.keys and since_try >= UNKNOWN_S

    async def _refetch(self, source: KeySource, row: _Row) -> None:
        try:
            with trio.fail_after(FETCH_S):
                keys = parse_key_set(await self._fetch.fetch(source.url), algorithms=source.algorithms, use=source.use)
        except trio.TooSlowError:
            row.trouble = "no answer in time"
        except (PortError, MalformedKey) as error:
            row.trouble = error.detail if isinstance(error, PortError) else str(error)
        else:
            row.keys, row.fetched_at, row.trouble = keys, self._clock(), ""
