"""Attack rows 102 and 143 at a real OpenBao: who can make a builder's certificate, for which names, and who cannot reach the builder CA at all.

Of row 102: a wrapped token used twice is in `test_vault_policies_and_sessions`. A token renewed with another certificate needs the vault's TLS
certificate method, which is not mounted, and that is tested.
"""

import re
from functools import partial

import hvac.exceptions
import pytest

from clients.demo.pki_paths import PKI_PATHS
from gatekeeper import bootstrap
from gatekeeper.adapters.vault import Connection
from gatekeeper.adapters.vault_layout import LOGINS
from gatekeeper.adapters.vault_relay import VaultRelay, login_role
from gatekeeper.ports.errors import Denied, PortError, Rejected
from gatekeeper.ports.vault import Unauthenticated
from tests.fakes.running_vault import running_vault
from tests.fakes.vault_house import BUILDER, COMMIT, PASSWORD, RUN
from tests.fakes.vault_requests import csr

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("vault-builder-ca")]  # one worker, one vault
NAMES = {"role": "builder", "name": "builder", "issuer_ref": "default", "key_ref": "default", "exported": "internal"}
_PATCH = {"json": {}, "headers": {"Content-Type": "application/merge-patch+json"}}
OTHER_RUN = f"urn:pingee:run:hello:{COMMIT}:run-2"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_vault(tmp_path_factory.mktemp("builder-ca"), keep_root=True) as house:
        yield house


@pytest.fixture
def root(house):
    connection = Connection(house.address, house.root)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def logins(house):
    """role -> a function that gives a connection with that role's rights: a child of `act` is good for six requests only."""
    anonymous = Connection(house.address)
    held = {}
    for role in LOGINS:
        secret = house.secret(f"test-{role}")
        holder = Connection(house.address, secret.wrapping_token)
        body = {"role_id": secret.role_id, "secret_id": holder.write("sys/wrapping/unwrap")["data"]["secret_id"]}
        holder.close()
        held[role] = Connection(house.address, anonymous.write("auth/approle/login", body)["auth"]["client_token"])
    held["person"] = Connection(house.address, anonymous.write("auth/userpass/login/alice", {"password": PASSWORD})["auth"]["client_token"])
    held["supervisor"] = Connection(house.address, house.supervisor)

    def child():
        made = held["act"].write("auth/token/create/test-deploy-web1", {"display_name": "deploy"})
        return Connection(house.address, made["auth"]["client_token"])

    def run():
        answer = anonymous.write("auth/platform/login", {"role": login_role(BUILDER), "jwt": house.platform.token()})
        return Connection(house.address, answer["auth"]["client_token"])

    yield {**{role: partial(lambda one: one, connection) for role, connection in held.items()}, "deploy": child, "builder-run": run}
    for connection in (*held.values(), anonymous):
        connection.close()


def engine_paths(root):
    """(method, path) of the builder CA as the vault describes itself, with names filled in; and those that it serves without a login."""
    closed, open_ = set(), set()
    for path, item in root.read("sys/internal/specs/openapi")["paths"].items():
        if path.startswith("/builder-ca/"):
            filled = re.sub(r"\{(\w+)\}", lambda m: NAMES.get(m[1], "x"), path.removeprefix("/"))
            methods = {method for method in ("get", "post", "delete", "patch") if method in item}
            (open_ if item.get("x-vault-unauthenticated") else closed).update((method, filled) for method in methods)
    return closed, open_


def reached(call):
    try:
        call()
    except Denied:
        return False
    except PortError:
        return True
    return True


def test_the_list_of_paths_that_the_demo_tries_is_the_vaults_own(root):
    closed, _ = engine_paths(root)
    assert set(PKI_PATHS) == {({"get": "read", "post": "write"}[m], p) for m, p in closed if m in ("get", "post")}


@pytest.mark.parametrize("role", [*LOGINS, "supervisor", "person", "deploy", "builder-run"])
def test_no_login_reaches_a_path_of_the_builder_ca(root, logins, role):
    closed, _ = engine_paths(root)
    for method, path in sorted(closed):
        if role == "builder-run" and (method, path) == ("post", "builder-ca/sign/builder"):
            continue  # the one path there is, for a run: tested by the names that it gives
        connection = logins[role]()
        calls = {"get": partial(connection.read, path), "post": partial(connection.write, path, {})}
        # Neither DELETE nor PATCH is something that honest code sends: by the vendor's client itself.
        calls |= {"delete": partial(_raw, connection, "delete", path), "patch": partial(_raw, connection, "patch", path)}
        assert not reached(calls[method]), (role, method, path)
        if role in ("deploy", "builder-run"):
            connection.close()


def _raw(connection, method, path):
    try:
        connection._client.adapter.request(method, f"/v1/{path}", **({} if method == "delete" else _PATCH))
    except hvac.exceptions.Forbidden:
        raise Denied("vault-denied", "refused") from None


def test_what_the_builder_ca_serves_without_a_login_makes_nothing(root, house):
    anonymous, (_, open_) = Connection(house.address), engine_paths(root)
    acme = sorted(path for method, path in open_ if method == "post" and "/acme/" in path)
    assert len(acme) > 30
    for path in acme:
        with pytest.raises(Rejected, match="vault-absent"):
            anonymous.write(path, {})
    assert {path for method, path in open_ if method == "post"} - set(acme) == {"builder-ca/ocsp"}
    anonymous.close()


def test_acme_that_somebody_switched_on_is_seen_and_switched_off(root, house):
    root.write("builder-ca/config/cluster", {"path": f"{house.address.url}/v1/builder-ca", "aia_path": f"{house.address.url}/v1/builder-ca"})
    root.write("builder-ca/config/acme", {"enabled": True})
    plan = bootstrap.plan(house.address, house.root, house.layout)
    assert [change.step.path for change in plan.changes] == ["builder-ca/config/acme"]
    bootstrap.apply(house.address, house.root, plan)
    assert root.read("builder-ca/config/acme")["data"]["enabled"] is False


async def test_a_run_of_another_project_gets_no_certificate_whatever_it_asks_for(house):
    relay = VaultRelay(house.address)
    for urn in (RUN, f"urn:pingee:run:other-project:{COMMIT}:run-1"):
        with pytest.raises(Unauthenticated):
            await relay.issue(token=house.platform.token(project="other-project"), csr_pem=csr(), builder_id=BUILDER, run_urn=urn)


async def test_two_runs_with_one_subject_never_get_each_others_names(house):
    """Logged in at the same time, in either order: names follow the token's own id, for alias metadata is shared by one `user_claim`."""
    anonymous = Connection(house.address)

    def run_login(**claims):
        answer = anonymous.write("auth/platform/login", {"role": login_role(BUILDER), "jwt": house.platform.token(sub="project:hello", **claims)})
        return Connection(house.address, answer["auth"]["client_token"]), answer["auth"]["entity_id"]

    def sign(connection, urn):
        return connection.write("builder-ca/sign/builder", {"csr": csr().decode(), "uri_sans": f"{BUILDER},{urn}"})

    for swapped in (False, True):
        (first, one), (second, two) = run_login(), run_login(run="run-2")
        assert one != two
        wanted = ((first, OTHER_RUN), (second, RUN)) if swapped else ((first, RUN), (second, OTHER_RUN))
        for connection, urn in wanted:
            if swapped:
                with pytest.raises(Rejected):
                    sign(connection, urn)
            else:
                assert sign(connection, urn)["data"]["certificate"].startswith("-----BEGIN")
            connection.close()
    anonymous.close()


async def test_token_ids_that_differ_by_case_are_one_run_to_the_vault_and_the_second_is_given_no_name_of_its_own(house):
    """Why the intake spends a token's id in lower case."""
    relay = VaultRelay(house.address)
    await relay.issue(token=house.platform.token(jti="spelled-once"), csr_pem=csr(), builder_id=BUILDER, run_urn=RUN)
    with pytest.raises(Denied, match="names-refused"):
        await relay.issue(token=house.platform.token(jti="SPELLED-once", run="run-2"), csr_pem=csr(), builder_id=BUILDER, run_urn=OTHER_RUN)


def test_a_persons_name_in_another_case_is_the_same_person(house):
    anonymous = Connection(house.address)
    entities = {anonymous.write(f"auth/userpass/login/{name}", {"password": PASSWORD})["auth"]["entity_id"] for name in ("alice", "ALICE", "Alice")}
    assert entities == {house.public.people["alice"]}
    anonymous.close()


def test_a_role_without_bound_audience_is_seen_and_put_right(root, house):
    """Unbound it would take a token that names no audience, which no gatekeeper relays; a token for anybody it refuses even then."""
    path = f"auth/platform/role/{login_role(BUILDER)}"
    anonymous, body = Connection(house.address), {"role": login_role(BUILDER)}
    with pytest.raises(Rejected):
        anonymous.write("auth/platform/login", {**body, "jwt": house.platform.token(aud=None)})
    known = root.read(path)["data"]
    root.write(path, {**{key: known[key] for key in ("role_type", "user_claim", "bound_claims", "claim_mappings")}, "bound_audiences": []})
    with pytest.raises(Rejected):
        anonymous.write("auth/platform/login", {**body, "jwt": house.platform.token()})
    plan = bootstrap.plan(house.address, house.root, house.layout)
    assert [change.step.path for change in plan.changes] == [path]
    bootstrap.apply(house.address, house.root, plan)
    with pytest.raises(Rejected):
        anonymous.write("auth/platform/login", {**body, "jwt": house.platform.token(aud=None)})
    anonymous.close()


def test_there_is_no_certificate_login_whose_token_could_be_renewed_with_another(root):
    kinds = {method: entry["type"] for method, entry in root.read("sys/auth")["data"].items()}
    assert kinds == {"approle/": "approle", "platform/": "jwt", "token/": "token", "userpass/": "userpass"}
