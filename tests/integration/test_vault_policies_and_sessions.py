"""A real OpenBao: what each role is refused, path by path; logins, relay, renewal, restart; and that no error carries a secret."""

import os
import re
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import trio

from clients.demo import openbao
from gatekeeper import bootstrap
from gatekeeper.adapters.vault import Connection, VaultAddress, WrappedSecret, login
from gatekeeper.adapters.vault_act import VaultAct
from gatekeeper.adapters.vault_decide import VaultDecide
from gatekeeper.adapters.vault_layout import LOGINS, policies_directory, roles_table
from gatekeeper.adapters.vault_log import VaultLog
from gatekeeper.adapters.vault_relay import VaultRelay
from gatekeeper.model.digest import digest_of
from gatekeeper.ports.errors import Denied, PortError, Rejected, Unavailable, Untrustworthy
from gatekeeper.ports.vault import Unauthenticated
from tests.fakes.running_vault import running_vault
from tests.fakes.vault_house import BUILDER, COMMIT, PASSWORD, RUN, CiPlatform, claims_of
from tests.fakes.vault_requests import csr, openssh

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("vault-policies")]  # one worker, one vault
RECEIPT = digest_of(b"receipt")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_vault(tmp_path_factory.mktemp("policies")) as house:
        yield house


@pytest.fixture(scope="module")
def tokens(house):
    """role -> Connection with that role's own rights."""
    connections = {}
    for role in LOGINS:
        anonymous = Connection(house.address)
        secret = house.secret(f"test-{role}")
        secret_id = Connection(house.address, secret.wrapping_token).write("sys/wrapping/unwrap")["data"]["secret_id"]
        token = anonymous.write("auth/approle/login", {"role_id": secret.role_id, "secret_id": secret_id})["auth"]["client_token"]
        connections[role] = Connection(house.address, token)
    made = connections["act"].write("auth/token/create/test-deploy-web1", {"meta": {"receipt": "00"}, "display_name": "deploy"})
    connections["deploy-accessor"] = made["auth"]["accessor"]
    person = Connection(house.address).write("auth/userpass/login/alice", {"password": PASSWORD})["auth"]["client_token"]
    connections["person"] = Connection(house.address, person)
    connections["supervisor"] = Connection(house.address, house.supervisor)
    yield connections
    for connection in connections.values():
        if isinstance(connection, Connection):
            connection.close()


# Every path that some role has, and the dangerous ones that none has. (verb, path, body)
EVERYTHING = {
    "log": [("w", "transit/sign/test-deploylog", {"input": "YQ==", "key_version": 1}), ("r", "transit/keys/test-deploylog", None)],
    "log-head": [
        ("w", "kv/data/test/deploylog/head", {"data": {"note": "eA=="}, "options": {"cas": 999}}),
        ("r", "kv/data/test/deploylog/head", None),
    ],
    "decide": [
        ("w", "transit/sign/test-receipt", {"input": "YQ==", "key_version": 1}),
        ("r", "transit/keys/test-receipt", None),
        ("w", "transit/encrypt/test-people", {"plaintext": "YQ=="}),
        ("w", "transit/decrypt/test-people", {"ciphertext": "vault:v1:AAAA"}),
    ],
    "act": [
        ("w", "auth/token/create/test-deploy-web1", {"display_name": "deploy"}),
        ("w", "auth/token/create/test-deploy-web2", {"display_name": "deploy"}),
        ("w", "auth/token/revoke-accessor", {"accessor": "no-such"}),
        ("w", "ssh-test/sign/web1.status", {"public_key": "x", "valid_principals": "deploy-test", "key_id": "k"}),
    ],
    "person": [("r", "identity/oidc/token/people-test", None), ("r", "identity/oidc/token/people-second", None)],
    "supervisor": [("r", f"auth/approle/role/test-{role}/role-id", None) for role in LOGINS],
    "nobody": [
        ("w", "transit/sign/second-deploylog", {"input": "YQ==", "key_version": 1}),
        ("w", "transit/sign/second-receipt", {"input": "YQ==", "key_version": 1}),
        ("w", "transit/sign/test-deploylog/sha2-512", {"input": "YQ==", "key_version": 1}),
        ("w", "transit/keys/test-deploylog/rotate", {}),
        ("w", "transit/keys/test-deploylog/config", {"deletion_allowed": True}),
        ("r", "transit/export/signing-key/test-deploylog", None),
        ("r", "transit/backup/test-receipt", None),
        ("r", "kv/metadata/test/deploylog/head", None),
        ("w", "kv/metadata/test/deploylog/head", {"cas_required": False}),
        ("w", "kv/delete/test/deploylog/head", {"versions": [1]}),
        ("w", "kv/destroy/test/deploylog/head", {"versions": [1]}),
        ("r", "kv/data/second/deploylog/head", None),
        ("r", "kv/data/test/config/test/hello", None),
        ("w", "kv/data/test/config/test/hello", {"data": {}}),
        ("w", "ssh-test/sign/web1", {"public_key": "x"}),
        ("w", "ssh-test/issue/web1", {}),
        ("w", "ssh-test/roles/web1", {}),
        ("w", "ssh-test/issue/web1.status", {}),
        ("w", "ssh-test/roles/web1.status", {}),
        ("w", "builder-ca/sign/builder", {"csr": "x"}),
        ("w", "builder-ca/issue/builder", {}),
        ("w", "builder-ca/sign-verbatim", {"csr": "x"}),
        ("w", "builder-ca/root/sign-intermediate", {"csr": "x"}),
        ("w", "builder-ca/roles/builder", {}),
        ("w", "auth/token/create", {}),
        ("w", "auth/token/create-orphan", {}),
        ("w", "auth/token/create/second-deploy-web1", {}),
        ("r", "auth/token/accessors?list=true", None),
        ("w", "auth/approle/role/test-log", {}),
        ("w", "auth/approle/role/test-log/custom-secret-id", {"secret_id": "x"}),
        ("w", "auth/approle/role/test-log/secret-id", {}),
        ("w", "auth/platform/config", {}),
        ("w", "auth/platform/role/new", {}),
        ("w", "auth/userpass/users/alice", {"password": "x"}),
        ("w", "auth/userpass/users/alice/password", {"password": "x"}),
        ("w", "identity/entity/name/alice", {"metadata": {"email": "x"}}),
        ("w", "identity/oidc/key/people-test/rotate", {}),
        ("w", "sys/policies/acl/test-log", {"policy": ""}),
        ("r", "sys/policies/acl/test-log", None),
        ("w", "sys/mounts/new", {"type": "kv"}),
        ("w", "sys/seal", {}),
        ("r", "sys/audit", None),
        ("r", "sys/raw/core", None),
        ("r", "cubbyhole/x", None),
    ],
}
OWN = {"log": ("log", "log-head"), "decide": ("decide",), "act": ("act",), "person": ("person",), "supervisor": ("supervisor",)}


def attempt(connection, verb, path, body):
    try:
        return connection.read(path) if verb == "r" else connection.write(path, body)
    except Rejected:
        return "reached"


@pytest.mark.parametrize("role", OWN)
def test_a_role_reaches_its_own_paths_and_is_refused_every_other(tokens, role):
    for group, requests in EVERYTHING.items():
        for verb, path, body in requests:
            if group in OWN[role]:
                attempt(tokens[role], verb, path, body)
            else:
                with pytest.raises(Denied):
                    raise AssertionError(f"{role} reached {path}: {attempt(tokens[role], verb, path, body)!r}"[:80])


def test_the_log_key_signs_nothing_but_plain_input_at_a_pinned_version(tokens):
    good = {"input": "YQ==", "key_version": 1}
    tokens["log"].write("transit/sign/test-deploylog", good)
    extras = ({"prehashed": True}, {"hash_algorithm": "none"}, {"context": "YQ=="}, {"batch_input": []})
    for bad in ({"input": "YQ=="}, *(good | extra for extra in extras)):
        with pytest.raises(Denied):
            tokens["log"].write("transit/sign/test-deploylog", bad)


def test_the_head_is_not_written_without_check_and_set(tokens):
    for body in ({"data": {"note": "eA=="}}, {"data": {"note": "eA=="}, "options": {}}):
        with pytest.raises(Rejected):
            tokens["log"].write("kv/data/test/deploylog/head", body)


def test_a_child_is_bound_to_one_target_and_cannot_widen_itself(house, tokens):
    act = tokens["act"]
    widening = ({"policies": ["supervisor"]}, {"ttl": "9h"}, {"num_uses": 0}, {"no_parent": True}, {"display_name": "root"}, {"entity_alias": "a"})
    for extra in widening:
        with pytest.raises(Denied):
            act.write("auth/token/create/test-deploy-web1", {"display_name": "deploy"} | extra)
    made = act.write("auth/token/create/test-deploy-web1", {"display_name": "deploy"})["auth"]
    assert made["lease_duration"] <= 600
    assert made["policies"] == ["test-deploy-web1"]
    child = Connection(house.address, made["client_token"])
    good = {"public_key": openssh(), "valid_principals": "deploy-test", "key_id": "0" * 64, "critical_options": {"force-command": "x"}}
    child.write("ssh-test/sign/web1", good)
    for path, body in (
        ("ssh-test/sign/web2", good | {"valid_principals": "deploy-other"}),
        ("ssh-test/sign/web1", good | {"valid_principals": "root"}),
        ("ssh-test/sign/web1", good | {"extensions": {"permit-pty": ""}}),
        ("ssh-test/sign/web1", {"public_key": openssh(), "valid_principals": "deploy-test"}),
    ):
        with pytest.raises(Denied):
            child.write(path, body)
    child.close()


def test_a_status_certificate_is_signed_without_a_child_and_its_command_cannot_be_chosen(house, tokens):
    act = tokens["act"]
    good = {"public_key": openssh(), "valid_principals": "deploy-test", "key_id": "adoption", "cert_type": "user", "ttl": "300s"}
    assert act.write("ssh-test/sign/web1.status", good)["data"]["signed_key"]
    for extra in (
        {"critical_options": {"force-command": "pingee-doorkeeper serve " + "0" * 64}},
        {"critical_options": {}},
        {"valid_principals": "deploy-other"},
        {"extensions": {"permit-pty": ""}},
        {"cert_type": "host"},
    ):
        with pytest.raises(Denied):
            act.write("ssh-test/sign/web1.status", good | extra)


def test_the_supervisor_gets_no_secret_id_that_is_not_wrapped(house, tokens):
    for wrap_ttl in (None, "1h"):
        with pytest.raises((Denied, Rejected)):
            tokens["supervisor"].write("auth/approle/role/test-log/secret-id", wrap_ttl=wrap_ttl)
    with pytest.raises(Denied):
        tokens["supervisor"].write("auth/approle/role/test-log/secret-id", {"ttl": "9h"}, wrap_ttl="60s")
    assert house.secret("test-log").wrapping_token


def test_the_table_and_the_policy_files_say_the_same():
    for role, entry in roles_table().items():
        text = "".join((policies_directory() / name).read_text() for name in entry["policy"])
        written = {
            path: re.findall(r'"(\w+)"', re.search(r"capabilities\s*=\s*\[(.*?)\]", block)[1])
            for path, block in re.findall(r'^path "([^"]+)" \{\n(.*?)^\}', text, re.DOTALL | re.MULTILINE)
        }
        assert written == {row["path"]: row["capabilities"] for row in entry["paths"]}, role
        assert all(len(row["why"]) > 10 for row in entry["paths"])
        assert "*" not in "".join(written)


async def test_a_wrapped_secret_opens_once(house):
    secret = house.secret("test-log")
    session = await login(house.address, secret)
    with pytest.raises(Denied, match="secret-spent"):
        await login(house.address, secret)
    await session.close()


def test_a_secret_id_logs_in_once(house):
    secret, anonymous = house.secret("test-log"), Connection(house.address)
    holder = Connection(house.address, secret.wrapping_token)
    body = {"role_id": secret.role_id, "secret_id": holder.write("sys/wrapping/unwrap")["data"]["secret_id"]}
    anonymous.write("auth/approle/login", body)
    with pytest.raises(Rejected):
        anonymous.write("auth/approle/login", body)
    holder.close()
    anonymous.close()


async def test_a_secret_of_another_role_is_not_opened(house):
    real = house.secret("test-act")
    with pytest.raises(Untrustworthy, match="secret-swapped"):
        await login(house.address, WrappedSecret("test-log", real.role_id, real.wrapping_token))
    await (await login(house.address, real)).close()


async def test_a_closed_session_is_refused_and_a_renewed_one_lives(house):
    session = await login(house.address, house.secret("test-log"))
    async with trio.open_nursery() as nursery:
        session._lease_s = 0.3
        await nursery.start(session.run)
        await trio.sleep(0.3)
        assert not session.lost.is_set()
        nursery.cancel_scope.cancel()
    await session.close()
    gone = VaultLog(session, "test", public_key=house.public.instances["test"].log_public_key)
    with pytest.raises(Denied):
        await gone.sign(b"x\n")
    session._lease_s = 0.03
    with trio.fail_after(60):
        await session.run()
    assert session.lost.is_set()


async def test_another_key_than_the_pinned_one_is_not_believed(house):
    one, two = house.public.instances["test"], house.public.instances["second"]
    session = await login(house.address, house.secret("test-log"))
    log = VaultLog(session, "test", public_key=two.log_public_key)
    for call in (log.public_key(), log.sign(b"note\n")):
        with pytest.raises(Untrustworthy):
            await call
    await session.close()
    session = await login(house.address, house.secret("test-decide"))
    decide = VaultDecide(session, "test", public_key_pem=two.receipt_key_pem.encode())
    for call in (decide.public_key_pem(), decide.sign(b"message")):
        with pytest.raises(Untrustworthy):
            await call
    await session.close()
    assert one.log_vkey.startswith("test.demo/log/2026+")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "pingee:test"}, {"aud": None}, {"iss": "https://elsewhere"}, {"exp": int(time.time()) - 3600, "nbf": None, "iat": None},
        {"builder_id": "https://ci.demo/second"}, {"project": "other-project"}, {"jti": None}, {"builder_id": None},
    ],
)  # fmt: skip
async def test_a_token_with_a_wrong_claim_is_unauthenticated(house, changes):
    with pytest.raises(Unauthenticated):
        await VaultRelay(house.address).issue(token=house.platform.token(**changes), csr_pem=csr(), builder_id=BUILDER, run_urn=RUN)


async def test_a_token_without_a_commit_gives_no_name(house):
    with pytest.raises(Denied, match="names-refused"):
        await VaultRelay(house.address).issue(token=house.platform.token(commit=None), csr_pem=csr(), builder_id=BUILDER, run_urn=RUN)


async def test_a_token_of_another_key_is_unauthenticated(house):
    with pytest.raises(Unauthenticated):
        await VaultRelay(house.address).issue(token=CiPlatform().token(), csr_pem=csr(), builder_id=BUILDER, run_urn=RUN)


async def test_two_runs_of_one_project_do_not_get_each_others_names(house):
    relay = VaultRelay(house.address)
    first, second = house.platform.token(), house.platform.token(run="run-2")
    other = f"urn:pingee:run:hello:{COMMIT}:run-2"
    await relay.issue(token=second, csr_pem=csr(), builder_id=BUILDER, run_urn=other)
    await relay.issue(token=first, csr_pem=csr(), builder_id=BUILDER, run_urn=RUN)
    with pytest.raises(Denied):
        await relay.issue(token=first, csr_pem=csr(), builder_id=BUILDER, run_urn=other)


@pytest.mark.parametrize("urn", [f"urn:pingee:run:hello:{COMMIT}:*", f"urn:pingee:run:hello:{COMMIT}:a,urn:x", "urn:pingee:run:hello:abc:run-1"])
async def test_a_name_with_a_second_reading_never_reaches_the_vault(house, urn):
    with pytest.raises(ValueError):
        await VaultRelay(house.address).issue(token=house.platform.token(run="*"), csr_pem=csr(), builder_id=BUILDER, run_urn=urn)


def test_a_person_gets_a_token_for_one_instance(house):
    claims = claims_of(bootstrap.person_token(house.address, name="bob", password=PASSWORD, instance="test"))
    assert claims["aud"] == "pingee:test"
    assert claims["iss"] == house.public.people_issuer
    assert claims["sub"] == house.public.people["bob"]
    assert (claims["kind"], claims["name"], claims["email"]) == ("person", "bob", "bob@test.demo")
    assert sorted(claims["groups"]) == ["operators", "reviewers"]
    with pytest.raises(Denied, match="login-refused"):
        bootstrap.person_token(house.address, name="bob", password="wrong", instance="test")


def test_the_root_token_is_dead_and_the_operators_files_are_private(house):
    with pytest.raises(Denied):
        Connection(house.address, house.root).read("auth/token/lookup-self")
    assert stat.S_IMODE(house.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in house.directory.iterdir()} == {0o600}
    vault = house.bao.directory
    assert {path.name for path in vault.iterdir() if stat.S_IMODE(path.stat().st_mode) & 0o077} == set()
    assert house.root not in "".join(path.read_text() for path in house.directory.iterdir())


async def test_no_error_and_no_audit_line_holds_a_secret(house):
    token, key = "canary-token-5e1f", "canary-input-77aa"
    seen = []
    other = VaultAddress(house.address.url, house.bao.directory / "tls.pem")
    nowhere = VaultAddress("https://127.0.0.1:9", house.address.ca_file)
    for address in (house.address, other, nowhere):
        connection = Connection(address, token)
        for call in (partial(connection.read, "transit/keys/test-receipt"), partial(connection.write, "transit/sign/x", {"input": key})):
            with pytest.raises(PortError) as caught:
                call()
            error = caught.value
            while error is not None:
                seen.append(f"{error!r} {error}")
                error = error.__cause__ or error.__context__
        connection.close()
    with pytest.raises(Unauthenticated) as caught:
        await VaultRelay(house.address).issue(token=token, csr_pem=csr(), builder_id=BUILDER, run_urn=RUN)
    seen.append(f"{caught.value!r} {caught.value.__context__!r}")
    text = " ".join(seen)
    assert token not in text
    assert key not in text
    audit = house.bao.audit_file.read_text()
    assert "test-deploy-web1" in audit
    assert token not in audit
    assert house.supervisor not in audit


def test_another_ca_and_plain_http_are_refused(house):
    wrong = Connection(VaultAddress(house.address.url, house.directory / "builder-ca.pem"))
    with pytest.raises(Unavailable, match="vault-tls"):
        wrong.read("sys/health")
    wrong.close()
    with pytest.raises(ValueError):
        Connection(VaultAddress("http://127.0.0.1:1", house.address.ca_file))


def test_the_environment_gives_no_token_and_no_proxy(house, monkeypatch):
    hostile = {"VAULT_TOKEN": house.supervisor, "VAULT_NAMESPACE": "x", "HTTPS_PROXY": "http://127.0.0.1:9", "REQUESTS_CA_BUNDLE": "/nonexistent"}
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    connection = Connection(house.address)
    assert connection.read("sys/seal-status")["sealed"] is False
    with pytest.raises(Denied):
        connection.read("auth/approle/role/test-log/role-id")
    connection.close()


def test_the_bootstrap_is_idempotent_and_sees_what_was_changed(tmp_path):
    with running_vault(tmp_path, keep_root=True) as house:
        assert str(bootstrap.plan(house.address, house.root, house.layout)) == "nothing to change"
        root = Connection(house.address, house.root)
        root.write("auth/approle/role/test-log", {"secret_id_num_uses": 0})
        root.write("sys/policies/acl/test-act", {"policy": 'path "*" { capabilities = ["sudo"] }'})
        root.write("auth/platform/config", {"bound_issuer": "https://elsewhere", "jwt_validation_pubkeys": [CiPlatform().public_pem]})
        plan = bootstrap.plan(house.address, house.root, house.layout)
        assert {change.step.path for change in plan.changes} == {"auth/approle/role/test-log", "sys/policies/acl/test-act", "auth/platform/config"}
        assert PASSWORD not in str(plan) + repr(house.layout)
        bootstrap.apply(house.address, house.root, plan)
        assert not bootstrap.plan(house.address, house.root, house.layout).changes
        root.close()


def test_a_session_outlives_a_restart_of_the_vault(tmp_path):
    with running_vault(tmp_path) as house:
        public = house.public.instances["test"].log_public_key

        async def story():
            session = await login(house.address, house.secret("test-log"))
            log = VaultLog(session, "test", public_key=public)
            assert await log.write_head(b"one\n", cas=0) == 1
            house.bao.process.kill()
            house.bao.process.wait()
            for call in (log.sign(b"two\n"), log.read_head(), log.write_head(b"two\n", cas=1)):
                with pytest.raises(Unavailable):
                    await call
            house.bao = await openbao.start(house.bao.directory)
            await openbao.wait_for_state(house.bao, bootstrap.VaultState.READY)
            await log.sign(b"two\n")
            assert (await log.read_head()).note == b"one\n"
            with pytest.raises(openbao.VaultFailed, match="another vault"):
                await openbao.start(house.bao.directory)
            await openbao.stop(house.bao)

        trio.run(story)


def test_the_vault_dies_with_the_process_that_started_it(tmp_path):
    program = (
        "import os, sys, trio; from pathlib import Path; from clients.demo import openbao\n"
        "bao = trio.run(openbao.start, Path(sys.argv[1])); print(bao.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "vault")]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}, timeout=60)
    status = Path(f"/proc/{int(run.stdout)}/stat")
    until = time.monotonic() + 60
    while status.exists() and " Z " not in status.read_text():
        assert time.monotonic() < until, "the vault outlived its starter"
        time.sleep(0.05)


async def test_ending_children_of_a_killed_replica_works_for_another_replica(house):
    first, second = [await login(house.address, house.secret("test-act")) for _ in range(2)]
    one, two = (VaultAct(s, "test", house.layout.instances[0].targets, clock=lambda: datetime.now(UTC)) for s in (first, second))
    child = await one.child(receipt=RECEIPT, target="web1")
    await two.end(child.accessor)
    with pytest.raises(Denied):
        await one.settings(child, environment="test", component="hello")
    orphaned = await one.child(receipt=RECEIPT, target="web1")
    await first.close()
    with pytest.raises(Denied):
        await two.settings(orphaned, environment="test", component="hello")
    await second.close()


