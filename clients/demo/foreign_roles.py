"""Each login role of one gatekeeper, used as a new start of it would use it, asks the vault for what is another gatekeeper's."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import trio

from gatekeeper import bootstrap
from gatekeeper.adapters.vault import VaultAddress, VaultSession, login
from gatekeeper.adapters.vault_act import DeployTarget, VaultAct
from gatekeeper.model.digest import digest_of
from gatekeeper.ports.errors import Denied

from .steps import Stage
from .telling import StepFailed
from .world import InstanceWorld


def refused_roles(stage: Stage, test: InstanceWorld, production: InstanceWorld) -> dict[str, str]:
    """Log in as each role of `test` and ask for `production`'s secrets: how each was refused, by role. Raises `StepFailed` where one was not."""
    directory = Path(stage.world.directory)
    address = VaultAddress((directory / "vault" / "address").read_text().strip(), directory / "vault" / "ca.pem")
    supervisor = (directory / "operator" / "supervisor.token").read_text().strip()

    async def ask() -> dict[str, str]:
        answers = {}
        for role in ("act", "decide", "log"):
            session = await login(address, await trio.to_thread.run_sync(bootstrap.mint_wrapped, address, supervisor, f"{test.name}-{role}"))
            try:
                answers[f"{test.name}-{role}"] = await _asked(stage, session, role, test, production)
            finally:
                await session.close()
        return answers

    return trio.run(ask)


async def _asked(stage: Stage, session: VaultSession, role: str, test: InstanceWorld, production: InstanceWorld) -> str:
    theirs = f"kv/data/{production.name}/config/{production.name}/{stage.world.component}"
    if not await _is_refused(session, theirs):
        raise StepFailed(f"role {test.name}-{role} was given {theirs}")
    if role == "act":
        await _asked_by_its_children(stage, session, test, production)
        return f"refused {theirs} by the vault, as was the deploy token it makes (its own was readable), and production's deploy tokens"
    return f"refused {theirs} by the vault"


async def _asked_by_its_children(stage: Stage, session: VaultSession, test: InstanceWorld, production: InstanceWorld) -> None:
    # What reads secrets is not the role itself but the one-deploy token that it makes; its own place it does read, or the refusal would show nothing.
    receipt, component = digest_of(b"no receipt: nothing is deployed"), stage.world.component
    own, other = _act(session, test), _act(session, production)
    child = await own.child(receipt=receipt, target=test.target)
    try:
        if not await own.settings(child, environment=test.name, component=component):
            raise StepFailed("a deploy token of test does not read its own settings")
        try:
            await other.settings(child, environment=production.name, component=component)
        except Denied:
            pass
        else:
            raise StepFailed("a deploy token of test was given production's settings")
    finally:
        await own.end(child.accessor)
    try:
        await other.child(receipt=receipt, target=production.target)
    except Denied:
        return
    raise StepFailed("role test-act made a deploy token of production")


def _act(session: VaultSession, instance: InstanceWorld) -> VaultAct:
    targets = (DeployTarget(instance.target, instance.name, f"deploy-{instance.name}", "127.0.0.1"),)
    return VaultAct(session, instance.name, targets, clock=lambda: datetime.now(UTC))


async def _is_refused(session: VaultSession, path: str) -> bool:
    try:
        await session.read(path)
    except Denied:
        return True
    return False
