"""Attack row 143 at a real OpenBao for tokens of GitLab and GitHub: certificates named by the reviewed layout and the token together, and by nobody else."""

import time
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper import bootstrap
from gatekeeper.adapters.vault import Connection
from gatekeeper.adapters.vault_platforms import ForeignPlatform, PlatformBuilder
from gatekeeper.adapters.vault_relay import VaultRelay, platform_role
from gatekeeper.model.issuer import IssuerKind
from gatekeeper.ports.errors import Denied
from gatekeeper.ports.vault import Unauthenticated
from gatekeeper.verify.builder import read_run_certificate
from tests.fakes.platforms import BUILDERS, PROJECT_IDS, RECIPES, SHA, URLS, changed, our_key
from tests.fakes.running_vault import running_vault
from tests.fakes.vault_house import AUDIENCE
from tests.fakes.vault_requests import csr

pytestmark = pytest.mark.anyio
RUNS = {"gitlab": "302", "github": "1658821493-2"}
NUMBERS = {"gitlab": "project_id", "github": "repository_id"}
RECIPE = {"gitlab": "ci_config_ref_uri", "github": "job_workflow_ref"}
OTHER = "b" * 40


def foreign(kind):
    pem = our_key(kind).key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    builder = PlatformBuilder(BUILDERS[kind], RECIPES[kind], {"hello": PROJECT_IDS[kind], "second": "4242"})
    return ForeignPlatform(kind, IssuerKind(kind), URLS[kind], (AUDIENCE,), ("RS256",), (builder,), public_keys_pem=(pem,))


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_vault(tmp_path_factory.mktemp("platforms"), keep_root=True, foreign=[foreign("gitlab"), foreign("github")]) as house:
        yield house


def token(kind, **changes):
    now = int(time.time())
    fresh = {"iat": now, "nbf": now - 5, "exp": now + 300, "jti": str(uuid.uuid4()), "aud": AUDIENCE}
    return changed(kind, lambda claims: claims.update(fresh | changes))


def urn(kind, *, project="hello", commit=SHA, run=None):
    return f"urn:pingee:run:{project}:{commit}:{run or RUNS[kind]}"


async def issue(house, kind, *, jwt=None, name=None, builder=None, **names):
    relay = VaultRelay(house.address)
    platform = kind if name is None else name
    return await relay.issue(
        token=jwt or token(kind), csr_pem=csr(), builder_id=builder or BUILDERS[kind], run_urn=urn(kind, **names), platform=platform
    )


@pytest.mark.parametrize("kind", ["gitlab", "github"])
async def test_a_run_gets_its_certificate_under_our_names(house, kind):
    leaf = x509.load_pem_x509_certificate((await issue(house, kind))[0])
    run = read_run_certificate(leaf.public_bytes(Encoding.DER))
    assert (run.builder_id, run.project, run.commit, run.run) == (BUILDERS[kind], "hello", SHA, RUNS[kind])
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() <= 630


@pytest.mark.parametrize("names", [{"commit": OTHER}, {"run": "1"}], ids=["commit", "run"])
@pytest.mark.parametrize("kind", ["gitlab", "github"])
async def test_a_run_gets_no_other_commit_or_run(house, kind, names):
    with pytest.raises(Denied, match="names-refused"):
        await issue(house, kind, **names)


@pytest.mark.parametrize("kind", ["gitlab", "github"])
async def test_a_run_gets_no_other_project_than_its_number_says(house, kind):
    with pytest.raises(Unauthenticated):
        await issue(house, kind, project="second")
    with pytest.raises(Unauthenticated):
        await issue(house, kind, jwt=token(kind, **{NUMBERS[kind]: "4242"}))
    assert await issue(house, kind, jwt=token(kind, **{NUMBERS[kind]: "4242"}), project="second")


@pytest.mark.parametrize("kind", ["gitlab", "github"])
async def test_what_the_login_role_binds_is_bound(house, kind):
    for changes in (
        {RECIPE[kind]: RECIPES[kind] + "2"},
        {RECIPE[kind]: RECIPES[kind].replace("main", "evil")},
        {NUMBERS[kind]: PROJECT_IDS[kind] + "0"},
        {"aud": "pingee:test"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"jti": None},
    ):
        with pytest.raises(Unauthenticated):
            await issue(house, kind, jwt=token(kind, **changes))
    with pytest.raises(Denied, match="names-refused"):
        await issue(house, kind, jwt=token(kind, sha=None))


async def test_a_platforms_token_is_no_other_platforms(house):
    for jwt_of, name in (("gitlab", "github"), ("github", "gitlab"), ("gitlab", "")):
        with pytest.raises(Unauthenticated):
            await VaultRelay(house.address).issue(
                token=token(jwt_of), csr_pem=csr(), builder_id=BUILDERS[name or jwt_of], run_urn=urn(name or jwt_of), platform=name
            )
    with pytest.raises(Unauthenticated):  # the plain platform's token at another's door
        await issue(house, "gitlab", jwt=house.platform.token())
    with pytest.raises(Unauthenticated):
        await issue(house, "gitlab", builder=BUILDERS["github"])


async def test_two_runs_with_one_subject_never_get_each_others_names(house):
    """Two tokens at once, in either order: names follow the token's own id."""
    anonymous, role = Connection(house.address), platform_role("gitlab", BUILDERS["gitlab"], "hello")

    def run_login(job):
        answer = anonymous.write("auth/platform-gitlab/login", {"role": role, "jwt": token("gitlab", job_id=job)})
        return Connection(house.address, answer["auth"]["client_token"]), answer["auth"]["entity_id"]

    (first, one), (second, two) = run_login("302"), run_login("303")
    assert one != two
    for connection, run in ((first, "302"), (second, "303")):
        body = {"csr": csr().decode(), "uri_sans": f"{BUILDERS['gitlab']},{urn('gitlab', run=run)}"}
        assert connection.write(f"builder-ca/sign/{role}", body)["data"]["certificate"].startswith("-----BEGIN")
        connection.close()
    anonymous.close()


async def test_a_runs_login_signs_at_its_own_role_alone(house):
    anonymous, role = Connection(house.address), platform_role("gitlab", BUILDERS["gitlab"], "hello")
    for other in (platform_role("github", BUILDERS["github"], "hello"), platform_role("gitlab", BUILDERS["gitlab"], "second"), "builder"):
        answer = anonymous.write("auth/platform-gitlab/login", {"role": role, "jwt": token("gitlab")})
        run = Connection(house.address, answer["auth"]["client_token"])
        with pytest.raises(Denied):
            run.write(f"builder-ca/sign/{other}", {"csr": csr().decode(), "uri_sans": f"{BUILDERS['gitlab']},{urn('gitlab')}"})
        run.close()
    anonymous.close()


def test_what_stands_is_what_was_planned_and_a_widened_role_is_put_right(house):
    assert not bootstrap.plan(house.address, house.root, house.layout).changes
    path = f"auth/platform-gitlab/role/{platform_role('gitlab', BUILDERS['gitlab'], 'hello')}"
    root = Connection(house.address, house.root)
    known = root.read(path)["data"]
    root.write(path, {**{key: known[key] for key in ("role_type", "user_claim", "claim_mappings", "bound_audiences")}, "bound_claims": {}})
    plan = bootstrap.plan(house.address, house.root, house.layout)
    assert [change.step.path for change in plan.changes] == [path]
    bootstrap.apply(house.address, house.root, plan)
    root.close()


@pytest.mark.parametrize("kind", [IssuerKind.KUBERNETES, IssuerKind.ZUUL, IssuerKind.SPIFFE, IssuerKind.PERSON])
def test_a_kind_without_commits_has_no_place_in_the_vault(kind):
    builder = PlatformBuilder("https://b.example/b", "r", {"hello": "1"})
    with pytest.raises(ValueError, match="name no commit"):
        ForeignPlatform("x", kind, "https://x", (AUDIENCE,), ("RS256",), (builder,), public_keys_pem=("pem",))
