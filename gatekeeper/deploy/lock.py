"""The lock of environment and component as pings take it, and as what a dead replica left of it is taken away."""

from __future__ import annotations

from gatekeeper.model.label import Viewer
from gatekeeper.ports.pings import Held, Ping

from .candidate import own_viewer
from .parts import Parts


async def take_lock(parts: Parts, ping: Ping) -> int | Held:
    """The lock's fence for a ping, or who holds it."""
    place = (ping.new.environment, ping.new.component)
    lock = await parts.locks.acquire(*place, ping.id, parts.clock())
    if not isinstance(lock, Held):
        return lock
    holder = await parts.pings.get(lock.ping_id, Viewer(who=f"ping {ping.id}", clearances=lock.label))
    if holder is None or not holder.state.ended:
        return lock
    # A ping lets go before it ends; this one was withdrawn, and the replica that was to let go for it died first.
    await parts.locks.release(*place, lock.fence)
    return await parts.locks.acquire(*place, ping.id, parts.clock())


async def let_go(parts: Parts, ping: Ping) -> None:
    """Release what is held for a ping that no replica decides on now: one may have died between lock and draft."""
    place = (ping.new.environment, ping.new.component)
    held = await parts.locks.holder(*place, own_viewer(ping))
    if held is not None and held.ping_id == ping.id:
        await parts.locks.release(*place, held.fence)
