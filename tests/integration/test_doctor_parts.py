"""Each part stopped in turn, on real ones: what a replica says of itself, and what `pingee doctor` makes of it; and the doctor against real TLS."""

import http.server
import os
import ssl
import subprocess
import sys
import threading
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from clients.cli import reach
from clients.cli.check import Check
from clients.cli.doctor import Asked, examine
from clients.cli.reach import _found
from clients.cli.server import Access
from clients.demo import openbao
from clients.demo.postgres import EmbeddedPostgres
from gatekeeper.adapters.ssh import SshTarget
from gatekeeper.adapters.vault import Connection, login
from gatekeeper.adapters.vault_decide import VaultDecide
from gatekeeper.adapters.vault_log import VaultLog
from gatekeeper.api.operator import _words
from gatekeeper.crossing import open_loop_thread
from gatekeeper.model.readiness import Part, parse_readiness
from gatekeeper.ports.errors import PortError
from gatekeeper.postgres import open_database
from gatekeeper.postgres.migrate import migrate
from gatekeeper.readiness import Watched, probes
from tests.fakes.doorkeepers import installed
from tests.fakes.running_vault import running_vault
from tests.fakes.ssh_host import running_host

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
SOUND = SimpleNamespace(late=lambda: False, alarm=lambda: None, published=lambda: 1)
POLICY = SimpleNamespace(builders={})


@pytest.fixture
def vault(tmp_path):
    with running_vault(tmp_path / "house", keep_root=True) as house:
        yield house


@pytest.fixture
def postgres(tmp_path):
    with EmbeddedPostgres(tmp_path / "server") as server:
        yield server


@pytest.fixture
def host(tmp_path):
    with installed(tmp_path) as door, running_host(door) as host:
        yield host


@asynccontextmanager
async def replica(vault=None, url=None, addresses=(), clock=lambda: datetime.now(UTC)):
    """The probes of a replica with these real parts; a part that is not given is asked of nobody."""
    async with AsyncExitStack() as stack:
        database = None if url is None else await stack.enter_async_context(open_database(url))
        loop = await stack.enter_async_context(open_loop_thread("ssh"))
        sessions = {}
        if vault is not None:
            for role in ("log", "decide", "act"):
                sessions[role] = await login(vault.address, vault.secret(f"test-{role}"))
                stack.push_async_callback(sessions[role].close)
        public = None if vault is None else vault.public.instances["test"]
        nothing = SimpleNamespace(public_key=None, public_key_pem=None, write=len)
        watched = Watched(
            database=database, sequencer=SOUND, vault=None if vault is None else vault.address,
            vault_log=nothing if vault is None else VaultLog(sessions["log"], "test", public_key=public.log_public_key),
            vault_decide=nothing if vault is None else VaultDecide(sessions["decide"], "test", public_key_pem=public.receipt_key_pem.encode()),
            vault_act=nothing if vault is None else sessions["act"],
            policy=lambda: POLICY, policy_trouble=lambda: None, certificate=None, target=SshTarget(loop),
            addresses={address.name: address for address in addresses}, clock=clock,
        )  # fmt: skip

        async def told(*parts: Part) -> dict[str, Check]:
            needed, details = probes(watched)
            asked = {name: probe for name, probe in {**needed, **details}.items() if name.partition(":")[0] in parts}
            text = "".join(f"{name} {word}\n" for name, word in (await _words(asked)).items())
            return {name: _found(name, part, word) for name, part, word in parse_readiness(text)}

        yield SimpleNamespace(told=told, watched=watched)


VAULT = (Part.VAULT, Part.VAULT_CLOCK, Part.VAULT_LOG, Part.VAULT_DECIDE, Part.VAULT_ACT)
BEHIND_THE_VAULT = VAULT[1:]


def codes(checks):
    return {name: check.code for name, check in checks.items()}


async def told_of_a_sealed_vault(asked, root):
    """What is told of the vault while it is sealed. Its seal opens it by itself at a start, and may do so once more after the first order."""
    found, ends = {}, trio.current_time() + 120
    while trio.current_time() < ends:
        with suppress(PortError):
            root.write("sys/seal")
        found = await asked.told(*VAULT)
        if found[Part.VAULT].code == "vault-sealed" and {found[part].code for part in BEHIND_THE_VAULT} == {"cannot-tell"}:
            break
        await trio.sleep(0.05)
    return found


async def test_a_vault_whose_roles_go_that_is_sealed_and_then_stopped(vault):
    async with replica(vault) as asked:
        assert codes(await asked.told(*VAULT)) == dict.fromkeys(VAULT, "ok")
        root = Connection(vault.address, vault.root)
        # A missing role: what is left of its policy allows nothing.
        root.write("sys/policies/acl/test-act", {"policy": 'path "x" { capabilities = ["deny"] }'})
        found = await asked.told(*VAULT)
        assert codes(found) == dict.fromkeys(VAULT, "ok") | {Part.VAULT_ACT: "vault-act-refused"}
        assert found[Part.VAULT_ACT].sentence.startswith("the vault refuses the login act: its role or policy is missing")
        assert "bootstrap --plan" in found[Part.VAULT_ACT].remedy
        found = await told_of_a_sealed_vault(asked, root)
        assert codes(found) == {Part.VAULT: "vault-sealed"} | dict.fromkeys(BEHIND_THE_VAULT, "cannot-tell")
        assert found[Part.VAULT].sentence == "the vault is sealed, so nothing can be signed or deployed"
        await openbao.stop(vault.bao)
        found = await asked.told(*VAULT)
        assert codes(found) == {Part.VAULT: "vault-unreachable"} | dict.fromkeys(BEHIND_THE_VAULT, "cannot-tell")


async def test_another_key_another_ca_and_a_skewed_clock(vault, tmp_path):
    hour = timedelta(hours=1)
    async with replica(vault, clock=lambda: datetime.now(UTC) + hour) as asked:
        assert (await asked.told(Part.VAULT_CLOCK))[Part.VAULT_CLOCK].code == "vault-clock-behind"
        other = vault.public.instances["second"]
        watched = replace(
            asked.watched,
            vault_log=VaultLog(asked.watched.vault_log._session, "test", public_key=other.log_public_key),
            vault_decide=VaultDecide(asked.watched.vault_decide._session, "test", public_key_pem=other.receipt_key_pem.encode()),
            vault=replace(vault.address, ca_file=certificate(tmp_path, days=1)[0]),
        )
        needed, details = probes(watched)
        words = await _words({**needed, **{name: details[name] for name in (Part.VAULT, Part.VAULT_CLOCK)}} | {Part.DATABASE: details[Part.POLICY]})
        assert words[Part.VAULT_LOG] == words[Part.VAULT_DECIDE] == "key-differs"
        assert (words[Part.VAULT], words[Part.VAULT_CLOCK]) == ("untrusted", "cannot-tell")


async def test_a_database_put_back_skewed_and_then_stopped(postgres):
    url = postgres.create_database("doctor")
    await migrate(url)
    parts = (Part.DATABASE, Part.SCHEMA, Part.DATABASE_CLOCK)
    skew = timedelta()
    async with replica(url=url, clock=lambda: datetime.now(UTC) + skew) as asked:
        assert codes(await asked.told(*parts)) == dict.fromkeys(parts, "ok")
        skew = timedelta(seconds=-30)
        assert (await asked.told(*parts))[Part.DATABASE_CLOCK].code == "database-clock-ahead"
        await trio.to_thread.run_sync(forget_migrations, url)
        found = (await asked.told(*parts))[Part.SCHEMA]
        assert found.code == "schema-migration-needed"
        assert "pingee-gatekeeper migrate" in found.remedy
        await trio.to_thread.run_sync(postgres.stop)
        assert codes(await asked.told(*parts)) == {
            Part.DATABASE: "database-unreachable", Part.SCHEMA: "cannot-tell", Part.DATABASE_CLOCK: "cannot-tell",
        }  # fmt: skip


def forget_migrations(url):
    import asyncio

    async def run():
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("delete from schema_migration")
        finally:
            await connection.close()

    asyncio.run(run())


async def test_a_target_that_shows_another_key_and_one_that_is_down(host):
    other = replace(host.address, name="other-1", host_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINUSEKhjOWVvrAfP5kZOnk0cwlEJ9RJ3Gx5zUDQwCZNA",))
    away = replace(host.address, name="away-1", port=1)
    async with replica(addresses=(host.address, other, away)) as asked:
        found = await asked.told(Part.TARGET)
        assert codes(found) == {
            f"target:{host.address.name}": "ok", "target:other-1": "target-untrusted", "target:away-1": "target-unreachable",
        }  # fmt: skip
        assert found["target:away-1"].sentence == "the target away-1 does not answer SSH"


# --- the doctor against a real TLS server


def certificate(directory, *, days, name="127.0.0.1"):
    """A CA file, and a chain file with its key, good from a year ago for so many days from now."""
    directory.mkdir(parents=True, exist_ok=True)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"CA of {directory.name}")])
    now = datetime.now(UTC)

    def begun(subject, public):
        dated = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(public).serial_number(x509.random_serial_number())
        return dated.not_valid_before(now - timedelta(days=365))

    def signed(draft, end, *, ca):
        return draft.not_valid_after(end).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True).sign(ca_key, hashes.SHA256())

    usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
    ca = signed(begun(issuer, ca_key.public_key()).add_extension(usage, critical=True), now + timedelta(days=30), ca=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(name))])
    leaf = signed(begun(x509.Name([]), key.public_key()).add_extension(names, critical=True), now + timedelta(days=days), ca=False)
    (directory / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "chain.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + private)
    return directory / "ca.pem", directory / "chain.pem"


class Answer(http.server.BaseHTTPRequestHandler):
    skew = timedelta()

    def do_GET(self):
        self.send_response(401 if self.path == "/v1/whoami" else 404)
        self.end_headers()

    def date_time_string(self, timestamp=None):
        return format_datetime(datetime.now(UTC) + self.skew, usegmt=True)

    def log_message(self, *_):
        pass


@contextmanager
def tls_server(chain, skew=timedelta(), answer=Answer):
    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):  # a client that does not trust us hangs up
            pass

    server = Quiet(("127.0.0.1", 0), type("Skewed", (answer,), {"skew": skew}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def look(url, ca, **more):
    asked = Asked(Access(url, ca, None, None, 5.0), None, None, more.get("operator"), more.get("vault"), ca)
    return {check.name: check for check in examine(asked, now=datetime.now(UTC))}


@pytest.mark.parametrize(
    ("made", "code"),
    [({"days": 20}, None), ({"days": 13}, "certificate-expiring"), ({"days": -1}, "certificate-expired"), ({"days": 20, "name": "127.0.0.2"}, "certificate-name")],
)
def test_the_servers_certificate(tmp_path, made, code):
    ca, chain = certificate(tmp_path / "own", **made)
    with tls_server(chain) as url:
        found = look(url, ca)
        assert found["tls"].code == (code or "certificate"), found["tls"]
        assert found["tls"].ok is (code is None)
        assert found["clock"].code == ("clock" if code in (None, "certificate-expiring") else "cannot-tell")
        if code is None:
            stranger, _ = certificate(tmp_path / "stranger", days=20)
            assert look(url, stranger)["tls"].code == "certificate-untrusted"
            assert look(url, tmp_path / "none.pem")["tls"].code == "ca-file"
            assert look(url.replace("https:", "http:"), ca)["server"].code == "server-url"
            # A vault is asked over the same TLS, and its certificate is checked as well.
            assert look(url, stranger, vault=url)["vault-seal"].code == "vault-untrusted"


def test_a_clock_that_is_off_by_an_hour_and_a_listener_that_is_none(tmp_path):
    ca, chain = certificate(tmp_path, days=20)
    with tls_server(chain, timedelta(hours=-1)) as url:
        found = look(url, ca)
        assert found["clock"].code == "clock-skew"
        assert "s behind this machine's" in found["clock"].sentence


def test_a_server_that_drips_is_not_waited_for(tmp_path, monkeypatch):
    ca, chain = certificate(tmp_path, days=20)
    over = threading.Event()

    class Dripping(Answer):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                while not over.wait(0.05):
                    self.wfile.write(b"x")
                    self.wfile.flush()
            except OSError:
                pass

    monkeypatch.setattr(reach, "ANSWER_S", 0.3)
    with tls_server(chain, answer=Dripping) as url:
        try:
            assert look(url, ca)["server"].code == "server-silent"
        finally:
            over.set()


def test_everything_down_is_said_in_sentences_with_exit_3(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "clients.cli.main", "doctor", "--server", "https://127.0.0.1:1", "--operator", "http://127.0.0.1:1",
         "--vault", "https://127.0.0.1:1", "--log-policy", str(tmp_path / "none"), "--token-file", str(tmp_path / "token")],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "")
    said = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert [line.split()[1] for line in said] == ["token:", "server:", "log-policy:", "vault-seal:", "operator:"]
    assert "cannot tell  parts: vault, database, log, policy and targets are known only from a gatekeeper that runs" in done.stdout
