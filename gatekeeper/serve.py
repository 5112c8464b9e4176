"""Composition root: settings, then adapters, then one nursery, then hypercorn. Everything that is constructed is constructed here.

The command line that calls it is `gatekeeper.command`.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import trio

from gatekeeper.adapters.git import GitRunner, open_git
from gatekeeper.adapters.git_policy import GitPolicySource, PolicyOrigin, open_policy_source
from gatekeeper.adapters.git_review import GitReview
from gatekeeper.adapters.https_fetch import HttpsFetch
from gatekeeper.adapters.kubernetes_review import KubernetesReview
from gatekeeper.adapters.layout import open_layout
from gatekeeper.adapters.registry import open_registry
from gatekeeper.adapters.ssh import SshTarget
from gatekeeper.adapters.uploads import open_uploads
from gatekeeper.adapters.vault import VaultAddress, VaultSession, WrappedSecret, login
from gatekeeper.adapters.vault_act import DeployTarget, VaultAct
from gatekeeper.adapters.vault_relay import VaultRelay
from gatekeeper.adapters.witness import open_witnesses
from gatekeeper.api.admission import MOST, Bounds
from gatekeeper.api.app import build_app
from gatekeeper.api.listen import Listener, open_listener, serve_app
from gatekeeper.api.operator import build_operator_app
from gatekeeper.crossing import open_loop_thread
from gatekeeper.deploy.entries import run_indexer
from gatekeeper.deploy.keysets import KeySets
from gatekeeper.deploy.liveruns import LiveRuns
from gatekeeper.deploy.measure import Metrics
from gatekeeper.deploy.observe import run_observer
from gatekeeper.deploy.parts import Parts
from gatekeeper.deploy.reconcile import run_worker
from gatekeeper.deploy.witness_change import WantedWitnesses, log_witness_change
from gatekeeper.model.moment import moment
from gatekeeper.policy.load import PolicyError
from gatekeeper.ports.artifacts import ArtifactStore
from gatekeeper.ports.errors import PortError
from gatekeeper.ports.log import LogRefused
from gatekeeper.ports.registry import RegistryAddress
from gatekeeper.postgres.database import open_database
from gatekeeper.readiness import Watched, probes
from gatekeeper.rotation import carry_out_rotations, pinned_keys
from gatekeeper.sequencer import Sequencer, WitnessPlan
from gatekeeper.sequencer.origins import open_origins
from gatekeeper.settings import BadSettings, Listen, Settings, WitnessSettings, Wrapped
from gatekeeper.tlog.entry import Cause, OriginEntry
from gatekeeper.tlog.logpolicy import LogPolicy
from gatekeeper.web.pages import page_routes

VERSION: Final = "0.1.0"
_LOADED: Final = "policy.loaded"

_log = logging.getLogger("gatekeeper")


class LoginLost(PortError):
    """The vault no longer accepts one of this replica's logins. Only a new start, with fresh secrets from the supervisor, helps."""


def clock() -> datetime:
    """The system's clock, UTC: the only one there is."""
    return datetime.now(UTC)


async def serve(settings: Settings, wrapped: Mapping[str, Wrapped]) -> None:
    """Run one replica until SIGTERM or SIGINT. Raises what a part raises that cannot start, and `LoginLost` after an orderly stop."""
    async with AsyncExitStack() as stack:
        listeners = _open_listeners(settings)
        sessions = {name: await open_login(settings, name, secret) for name, secret in wrapped.items()}
        for session in sessions.values():
            stack.push_async_callback(session.close)
        database = await stack.enter_async_context(open_database(settings.database_url, clock=clock))
        loop = await stack.enter_async_context(open_loop_thread("pingee-ssh"))
        git = open_git(settings.state / "git")
        policy_source = await _policy(settings, git)
        known = await database.origins.origins()
        _demand_opened(settings.origin, known)
        keys = pinned_keys(settings, sessions["log"], sessions["decide"])
        log_store = database.log(settings.origin)
        witnesses = await stack.enter_async_context(_witnesses(settings))
        sequencer = Sequencer(
            log_store, keys.log_vault, opening=_opening(settings), clock=clock, witnesses=witnesses, rotation=keys.log_rotation
        )
        target = SshTarget(loop)
        issuers = HttpsFetch(settings.issuer_ca_file)
        parts = Parts(
            instance=settings.instance,
            origin=settings.origin,
            public_url=settings.public_url,
            allow_s=settings.allow_s,
            receipt_keys=keys.receipt_keys,
            policy=policy_source,
            keys=KeySets(issuers, clock=time.monotonic),
            runs=LiveRuns(issuers, KubernetesReview(settings.clusters), clock=time.monotonic),
            pings=database.pings,
            locks=database.locks,
            statements=database.statements,
            deployments=database.deployments,
            adoptions=database.adoptions,
            observations=database.observations,
            people=database.people,
            log=sequencer,
            entries=database.entries(settings.origin),
            decide_vault=keys.decide_vault,
            act_vault=VaultAct(sessions["act"], settings.instance, _deploy_targets(settings), clock=clock),
            relay=VaultRelay(_address(settings)),
            artifacts=await _artifacts(settings),
            review=GitReview(git, clock=time.monotonic),
            target=target,
            addresses={name: target.address for name, target in settings.targets.items()},
            clock=clock,
            random=os.urandom,
        )
        stop, closing = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            for session in sessions.values():
                await nursery.start(session.run)
            await nursery.start(sequencer.run)
            logged = None if settings.witnesses is None else await log_witness_change(parts, log_store, _wanted(settings, settings.witnesses))
            if logged and settings.witnesses is not None and settings.witnesses.fail_open:
                sequencer.publish_without_quorum()
            await carry_out_rotations(keys, parts, sequencer, settings.operator_keys)
            stores = {origin: database.log(origin) for origin in (*known, settings.origin)}
            origins = await open_origins(stores, database.origins, settings.origin, clock)
            parts = replace(parts, origins=origins)
            await nursery.start(run_worker, parts)
            nursery.start_soon(run_indexer, parts.entries, log_store, partial(_published_size, sequencer))
            nursery.start_soon(run_observer, parts, settings.observe_s)
            nursery.start_soon(_refresh_policy, parts, policy_source, settings)
            newest = sequencer.newest_key() or keys.log_key
            log_policy = LogPolicy(log=newest) if witnesses is None else replace(witnesses.policy, log=newest)
            app = build_app(
                parts,
                sequencer,
                log_policy,
                closed=origins,
                pages=[page_routes(parts)],
                max_blob=settings.max_blob,
                closing=closing,
                uploads=await open_uploads(settings.state / "uploads"),
            )
            needed, details = probes(
                Watched(
                    database=database,
                    sequencer=sequencer,
                    vault=_address(settings),
                    vault_log=keys.log_vault,
                    vault_decide=keys.decide_vault,
                    vault_act=sessions["act"],
                    policy=policy_source.current,
                    policy_trouble=lambda: policy_source.trouble,
                    certificate=settings.public.certificate,
                    target=target,
                    addresses=parts.addresses,
                    clock=clock,
                    witness_change=lambda: logged,
                )
            )
            operator = build_operator_app(needed, _metrics(parts, sequencer), details)
            await nursery.start(serve_app, operator, [listeners[1]], stop)
            await nursery.start(partial(serve_app, app, [listeners[0]], stop, bounds=_bounds(settings)))
            lost = await until_told(sessions, lambda: _log.info("instance %s serves %s", settings.instance, settings.public_url))
            if lost is not None:
                _log.critical("%s", lost.detail)
            closing.set()
            await trio.sleep(0.2)  # streams see `closing` at their next look and end by themselves
            stop.set()
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        if lost is not None:
            raise lost


async def until_told(sessions: Mapping[str, VaultSession], ready: Callable[[], None] = lambda: None) -> LoginLost | None:
    """Wait for SIGTERM or SIGINT (then None), or for the first login that is lost for good. `ready` is called when signals are listened to."""
    lost = None

    async def watch(name: str, event: trio.Event) -> None:
        nonlocal lost
        await event.wait()
        lost = LoginLost("login-lost", f"the vault no longer accepts the login {name}: this replica stops, to be started with fresh secrets")
        waiting.cancel_scope.cancel()

    async with trio.open_nursery() as waiting:
        for name, session in sessions.items():
            waiting.start_soon(watch, name, session.lost)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            # Not before: whoever reads that it serves may tell it to end at once.
            ready()
            async for _ in signals:
                waiting.cancel_scope.cancel()
    return lost


def _demand_opened(origin: str, known: Sequence[str]) -> None:
    """A further origin is opened by `log reopen` alone: one that a start opened would say of itself that it is the first."""
    if known and origin not in known:
        raise LogRefused("log-refused", f"the database holds {known[-1]} and no {origin}: a further origin is opened by pingee-gatekeeper log reopen")


def _open_listeners(settings: Settings) -> tuple[Listener, Listener]:
    public, operator = settings.public, settings.operator
    return _listener(public), _listener(operator)


def _listener(listen: Listen) -> Listener:
    return open_listener(listen.host, listen.port, certificate=listen.certificate, key=listen.key)


def _bounds(settings: Settings) -> Bounds:
    each = settings.public.connections_per_address
    return Bounds() if each is None else Bounds(max(MOST, each), each)


def _address(settings: Settings) -> VaultAddress:
    return VaultAddress(settings.vault.url, settings.vault.ca_file)


async def open_login(settings: Settings, name: str, wrapped: Wrapped) -> VaultSession:
    """Log in to the vault as one of the replica's roles; the caller closes the session. Raises `PortError`."""
    return await login(_address(settings), WrappedSecret(f"{settings.instance}-{name}", wrapped.role_id, wrapped.token))


@asynccontextmanager
async def _witnesses(settings: Settings) -> AsyncIterator[WitnessPlan | None]:
    if settings.witnesses is None:
        yield None
        return
    async with open_witnesses(settings.witnesses.ca_file) as link:
        yield WitnessPlan(settings.witnesses.policy, link)


async def _artifacts(settings: Settings) -> ArtifactStore:
    if isinstance(settings.artifacts, RegistryAddress):
        return await open_registry(settings.artifacts, settings.state / "artifacts", max_blob=settings.max_blob)
    return await open_layout(settings.artifacts)


def _wanted(settings: Settings, witnesses: WitnessSettings) -> WantedWitnesses:
    return WantedWitnesses(witnesses.digest, witnesses.fail_open, witnesses.order, settings.operator_keys)


def _deploy_targets(settings: Settings) -> tuple[DeployTarget, ...]:
    return tuple(
        DeployTarget(name=name, environment=t.environment, principal=t.address.user, source_address=t.source_address)
        for name, t in settings.targets.items()
    )


async def _policy(settings: Settings, git: GitRunner) -> GitPolicySource:
    source = await open_policy_source(git, policy_origin(settings), clock=time.monotonic, last_loaded=last_loaded(settings))
    _remember(settings, source)
    return source


def policy_origin(settings: Settings) -> PolicyOrigin:
    """Where the policy comes from and what is pinned of it."""
    return PolicyOrigin(
        remote=settings.policy.remote,
        branch=settings.policy.branch,
        root=settings.policy.root,
        signers=_signers(settings.policy.signers),
        instance=settings.instance,
    )


def _signers(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadSettings(f"{file}: {error.strerror}") from None


def last_loaded(settings: Settings) -> str | None:
    """The policy commit that this replica had in force last; None before its first start."""
    loaded = settings.state / _LOADED
    return loaded.read_text().strip() if loaded.is_file() else None


def _remember(settings: Settings, source: GitPolicySource) -> None:
    # What was loaded once is the floor for ever: a repository that goes back behind it is refused at the next start too.
    draft = settings.state / f"{_LOADED}.new"
    draft.write_text(source.loaded + "\n")
    draft.replace(settings.state / _LOADED)


async def _refresh_policy(parts: Parts, source: GitPolicySource, settings: Settings) -> None:
    """Look for a newer commit now and then; a refused one leaves the old policy in force and says so."""
    while True:
        await trio.sleep(settings.policy.refresh_s)
        try:
            if await source.refresh():
                _log.info("policy %s is in force", parts.policy.current().commit)
                await parts.pings.wake()
            if last_loaded(settings) != source.loaded:
                _remember(settings, source)  # also where it could not be remembered, or nobody be woken, before
        except PolicyError as error:
            _log.error("policy refused (%s), the old one stays in force: %s", error.code, error)
        except PortError as error:
            _log.warning("policy repository: %s", error)
        except OSError as error:
            # In force, but not the floor of the next start yet: tried again at the next look.
            _log.error("the policy in force cannot be remembered in %s: %s", settings.state, error.strerror)


def _opening(settings: Settings) -> OriginEntry:
    """Entry 0 of a log that has none yet; where there is one it is not looked at."""
    return OriginEntry(
        entry_id=os.urandom(16).hex(),
        origin=settings.origin,
        at=moment(clock()),
        config=None,
        cause=Cause.FIRST,
        previous=None,
        heads=None,
        sealed_slots=4,
        tick=0,
        who=(),
        reason=None,
    )


def _published_size(sequencer: Sequencer) -> int:
    newest = sequencer.published()
    return 0 if newest is None else newest.size


def _metrics(parts: Parts, sequencer: Sequencer) -> Metrics:
    def published() -> tuple[int, float] | None:
        newest = sequencer.published()
        return None if newest is None else (newest.size, newest.at.timestamp())

    def witnesses() -> Mapping[str, bool]:
        state = sequencer.witnessed()
        return {
            "witness_fail_open": state.fail_open,
            "witness_published_without_quorum": state.published_open,
            "witness_quorum_missing": state.quorum_missing,
        }

    return Metrics(parts, published, VERSION, alarm=sequencer.alarm, witnesses=witnesses)
