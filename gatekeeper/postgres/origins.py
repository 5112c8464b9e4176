"""Which origins the database holds, and what was ordered when one was opened after another (`ports.origins.OriginStore`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from gatekeeper.ports.origins import OpeningRecord

from .bridge import LOG_GONE, Bridge, Row, Unit
from .queries import load_queries

_Q: Final = load_queries("origins")


class PostgresOrigins:
    """See `OriginStore`."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def origins(self) -> tuple[str, ...]:
        """See `OriginStore.origins`."""
        rows = await self._bridge.read(lambda unit: unit.rows(_Q["origins"]), cause_code=LOG_GONE)
        return tuple(row["origin"] for row in rows)

    async def add_opening(self, record: OpeningRecord) -> OpeningRecord:
        """See `OriginStore.add_opening`."""

        async def work(unit: Unit) -> Row | None:
            await unit.run(_Q["add_opening"], **asdict(record) | {"signers": list(record.signers)})
            return await unit.row(_Q["opening"], origin=record.origin)

        return _opening(await self._bridge.write(work, cause_code=LOG_GONE)) or record

    async def opening(self, origin: str) -> OpeningRecord | None:
        """See `OriginStore.opening`."""
        return _opening(await self._bridge.read(lambda unit: unit.row(_Q["opening"], origin=origin), cause_code=LOG_GONE))


def _opening(row: Row | None) -> OpeningRecord | None:
    if row is None:
        return None
    values = {name: row[name] for name in OpeningRecord.__dataclass_fields__}
    return OpeningRecord(**values | {"signers": tuple(row["signers"])})
