"""What runs where: what was deployed last, and what the target itself said since.

A target that was asked and told of another release is believed in what it runs: two people may have brought an older one back there while we were
away. So the age rule compares with what really runs, and a rollback set holds whatever does not run. A release that was never deployed there by
us, or none at all, changes nothing of this: then the record of the last deployment stands.
"""

from __future__ import annotations

from gatekeeper.model.label import Viewer
from gatekeeper.model.ping import State
from gatekeeper.ports.records import DeploymentRecord

from .parts import Parts


async def what_runs(parts: Parts, viewer: Viewer, environment: str, component: str) -> DeploymentRecord | None:
    """The deployment by which the running release came there, as far as the Viewer may know. Raises `PortError`."""
    rows = await parts.deployments.running(viewer, environment=environment, component=component)
    drift = await parts.observations.drift(viewer, environment=environment, component=component)
    if not rows or not drift or drift[0].running is None:
        return rows[0] if rows else None
    told = (drift[0].running, drift[0].config)
    if told == (rows[0].artifact, rows[0].config):
        return rows[0]
    history = await parts.deployments.history(environment, component, viewer, limit=200)
    return next((row for row in history if row.state == State.DEPLOYED and (row.artifact, row.config) == told), rows[0])
