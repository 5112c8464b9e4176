"""One contract, on the fakes and on a real OpenBao."""

import inspect
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key, load_ssh_public_identity

from gatekeeper.adapters.vault import login
from gatekeeper.adapters.vault_act import VaultAct
from gatekeeper.adapters.vault_decide import VaultDecide
from gatekeeper.adapters.vault_log import VaultLog
from gatekeeper.adapters.vault_relay import VaultRelay
from gatekeeper.model.digest import digest_of
from gatekeeper.ports import vault
from gatekeeper.ports.errors import Denied, Rejected
from gatekeeper.ports.vault import CasMismatch, HeadRecord, Unauthenticated
from tests.fakes.running_vault import running_vault
from tests.fakes.vault import FakeActVault, FakeDecideVault, FakeLogVault, FakeRelay
from tests.fakes.vault_house import BUILDER, CANARY, COMMIT, RUN
from tests.fakes.vault_requests import csr, openssh

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("vault-ports")]  # one worker, one vault
RECEIPT = digest_of(b"receipt")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_vault(tmp_path_factory.mktemp("contract")) as house:
        yield house


@pytest.fixture(params=["fake", "openbao"])
def real(request):
    return None if request.param == "fake" else request.getfixturevalue("house")


@pytest.fixture
async def ports(real):
    if real is None:
        targets = {"web1": ("test", "deploy-test", "127.0.0.1/32"), "web2": ("other", "deploy-other", "127.0.0.1/32")}
        yield SimpleNamespace(
            log=FakeLogVault(),
            decide=FakeDecideVault(),
            act=FakeActVault(targets, {("test", "hello"): {"GREETING": CANARY}}),
            relay=FakeRelay({"good": (BUILDER, RUN)}),
            token="good",
        )
        return
    house = real
    public = house.public.instances["test"]
    sessions = [await login(house.address, house.secret(f"test-{role}")) for role in ("log", "decide", "act")]
    yield SimpleNamespace(
        log=VaultLog(sessions[0], "test", public_key=public.log_public_key),
        decide=VaultDecide(sessions[1], "test", public_key_pem=public.receipt_key_pem.encode()),
        act=VaultAct(sessions[2], "test", house.layout.instances[0].targets, clock=lambda: datetime.now(UTC)),
        relay=VaultRelay(house.address),
        token=house.platform.token(),
    )
    for session in sessions:
        await session.close()


async def test_a_note_is_signed_with_the_public_key(ports):
    key = ed25519.Ed25519PublicKey.from_public_bytes(await ports.log.public_key())
    key.verify(await ports.log.sign(b"origin\n1\nroot\n"), b"origin\n1\nroot\n")


@pytest.mark.parametrize("text", [b"", b"no newline", b"x" * 65536 + b"\n"])
async def test_what_is_no_note_is_not_signed(ports, text):
    with pytest.raises(ValueError):
        await ports.log.sign(text)


async def test_the_head_moves_only_by_the_expected_version(ports):
    before = await ports.log.read_head()
    version = before.version if before else 0
    assert await ports.log.write_head(b"note one\n", cas=version) == version + 1
    for wrong in (version, version + 2, 0):
        with pytest.raises(CasMismatch):
            await ports.log.write_head(b"note two\n", cas=wrong)
    assert await ports.log.read_head() == HeadRecord(b"note one\n", version + 1)


async def test_a_decision_is_signed_with_the_receipt_key(ports):
    key = load_pem_public_key(await ports.decide.public_key_pem())
    key.verify(await ports.decide.sign(b"message"), b"message", ec.ECDSA(hashes.SHA256()))


async def test_a_wrapped_key_comes_back_and_nothing_else_unwraps(ports):
    one, two = await ports.decide.wrap(b"k" * 32), await ports.decide.wrap(b"k" * 32)
    assert one != two
    assert await ports.decide.unwrap(one) == b"k" * 32
    for other in (one[:-4] + "AAA=", "vault:v1:AAAA", "", "nonsense"):
        with pytest.raises(Rejected):
            await ports.decide.unwrap(other)
    with pytest.raises(ValueError):
        await ports.decide.wrap(b"")


async def test_a_child_gives_a_certificate_for_its_receipt_and_target_alone(ports):
    child = await ports.act.child(receipt=RECEIPT, target="web1")
    key = openssh()
    given = await ports.act.ssh_certificate(child, public_key=key)
    certificate = load_ssh_public_identity(given.text.encode())
    command = b"pingee-doorkeeper serve " + RECEIPT.removeprefix("sha256:").encode()
    assert certificate.critical_options == {b"force-command": command, b"source-address": b"127.0.0.1/32"}
    assert certificate.valid_principals == [b"deploy-test"]
    assert certificate.extensions == {}
    assert certificate.serial == given.serial
    assert certificate.valid_before == int(given.expires.timestamp())
    assert timedelta(0) < given.expires - datetime.now(UTC) <= timedelta(seconds=302)
    with pytest.raises(ValueError):
        await ports.act.ssh_certificate(child, public_key="ssh-rsa AAAA")


async def test_a_status_is_read_under_a_certificate_that_names_no_receipt_and_no_other_command(ports):
    given = await ports.act.status_certificate(target="web1", name="a" * 32, public_key=openssh())
    certificate = load_ssh_public_identity(given.text.encode())
    assert certificate.critical_options == {b"force-command": b"pingee-doorkeeper status", b"source-address": b"127.0.0.1/32"}
    assert (certificate.valid_principals, certificate.extensions, certificate.key_id) == ([b"deploy-test"], {}, b"a" * 32)
    assert timedelta(0) < given.expires - datetime.now(UTC) <= timedelta(seconds=302)
    with pytest.raises(ValueError):
        await ports.act.status_certificate(target="web1", name="a", public_key="ssh-rsa AAAA")
    with pytest.raises(Rejected):
        await ports.act.status_certificate(target="nowhere", name="a", public_key=openssh())


async def test_a_child_reads_settings_of_its_own_environment_alone(ports):
    child = await ports.act.child(receipt=RECEIPT, target="web1")
    assert await ports.act.settings(child, environment="test", component="hello") == {"GREETING": CANARY}
    assert await ports.act.settings(child, environment="test", component="unknown") == {}
    with pytest.raises(Denied):
        await ports.act.settings(child, environment="other", component="hello")


async def test_an_ended_child_is_refused_and_ending_again_is_quiet(ports):
    child = await ports.act.child(receipt=RECEIPT, target="web1")
    await ports.act.end(child.accessor)
    with pytest.raises(Denied):
        await ports.act.ssh_certificate(child, public_key=openssh())
    with pytest.raises(Denied):
        await ports.act.settings(child, environment="test", component="hello")
    await ports.act.end(child.accessor)
    await ports.act.end("no-such-accessor")


async def test_a_child_has_few_uses(ports):
    child = await ports.act.child(receipt=RECEIPT, target="web1")
    for _ in range(6):
        await ports.act.settings(child, environment="test", component="hello")
    with pytest.raises(Denied):
        await ports.act.settings(child, environment="test", component="hello")


async def test_an_unknown_target_has_no_child(ports):
    with pytest.raises(Rejected):
        await ports.act.child(receipt=RECEIPT, target="elsewhere")


async def test_no_secret_stands_in_a_representation(ports):
    child = await ports.act.child(receipt=RECEIPT, target="web1")
    assert child.token not in repr(child) + str(child)


async def test_a_run_gets_a_certificate_with_its_two_names(ports):
    key = ec.generate_private_key(ec.SECP256R1())
    leaf, ca = map(x509.load_pem_x509_certificate, await ports.relay.issue(token=ports.token, csr_pem=csr(key), builder_id=BUILDER, run_urn=RUN))
    assert leaf.public_key() == key.public_key()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {name.value for name in names} == {BUILDER, RUN}
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.ExtendedKeyUsageOID.CODE_SIGNING]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(seconds=640)
    leaf.verify_directly_issued_by(ca)


@pytest.mark.parametrize("names", [f"hello:{'b' * 40}:run-1", f"hello:{COMMIT}:run-2", f"other:{COMMIT}:run-1"])
async def test_a_run_gets_no_other_runs_names(ports, names):
    with pytest.raises(Denied):
        await ports.relay.issue(token=ports.token, csr_pem=csr(), builder_id=BUILDER, run_urn="urn:pingee:run:" + names)


async def test_an_unknown_token_is_unauthenticated(ports):
    with pytest.raises(Unauthenticated):
        await ports.relay.issue(token="a.b.c", csr_pem=csr(), builder_id=BUILDER, run_urn=RUN)


async def test_a_request_not_signed_with_its_own_key_is_rejected(ports):
    good = x509.load_pem_x509_csr(csr()).public_bytes(Encoding.DER)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    import base64

    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(forged) + b"-----END CERTIFICATE REQUEST-----\n"
    for request in (pem, b"nonsense"):
        with pytest.raises(Rejected, match="csr-malformed"):
            await ports.relay.issue(token=ports.token, csr_pem=request, builder_id=BUILDER, run_urn=RUN)


@pytest.mark.parametrize(
    ("fake", "port"),
    [(FakeLogVault, vault.LogVault), (FakeDecideVault, vault.DecideVault), (FakeActVault, vault.ActVault), (FakeRelay, vault.CertificateRelay)],
)
def test_the_fakes_have_every_method_of_their_port(fake, port):
    for name, method in inspect.getmembers(port, inspect.iscoroutinefunction):
        assert list(inspect.signature(method).parameters) == list(inspect.signature(getattr(fake, name)).parameters)
