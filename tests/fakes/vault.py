"""The vault's ports in memory, for tests of what uses them. They pass the same contract suite as the real adapters.

`down = True` makes every call raise `Unavailable`. `write_head` has two kinds of crash: `fail_before` and `fail_after` the write. `signed` lists
every text that the log's key ever signed.
"""

import os
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_key,
)

from gatekeeper.model.digest import digest_hex
from gatekeeper.model.moment import Moment, later, moment
from gatekeeper.ports.errors import Denied, Rejected, Unavailable
from gatekeeper.ports.vault import CasMismatch, DeployToken, HeadRecord, SshCertificate, Unauthenticated


class _Switch:
    def __init__(self):
        self.down = False

    def _up(self):
        if self.down:
            raise Unavailable("vault-down", "the fake vault is down")


class FakeLogVault(_Switch):
    def __init__(self, key=None):
        super().__init__()
        self.key = key or ed25519.Ed25519PrivateKey.generate()
        self.head = None
        self.signed = []
        self.fail_before = self.fail_after = False

    async def public_key(self):
        self._up()
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    async def sign(self, note_text):
        self._up()
        if not note_text.endswith(b"\n") or len(note_text) > 64 * 1024:
            raise ValueError("a note's text ends in a newline")
        self.signed.append(note_text)
        return self.key.sign(note_text)

    async def read_head(self):
        self._up()
        return self.head

    async def write_head(self, note, *, cas, edge=b""):
        self._up()
        if not note or len(note) > 64 * 1024:
            raise ValueError("a note has 1 byte to 64 KiB")
        if self.fail_before:
            raise Unavailable("timeout", "nothing was written")
        version = self.head.version if self.head else 0
        if cas != version:
            raise CasMismatch("cas-mismatch", "another version stands there")
        self.head = HeadRecord(note, version + 1, edge)
        if self.fail_after:
            raise Unavailable("timeout", "it was written all the same")
        return version + 1


class FakeDecideVault(_Switch):
    def __init__(self, key=None):
        super().__init__()
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self._wrapping = AESGCM(AESGCM.generate_key(256))

    async def public_key_pem(self):
        self._up()
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    async def sign(self, message):
        self._up()
        if len(message) > 1024 * 1024:
            raise ValueError("at most 1 MiB is signed")
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    async def wrap(self, key):
        self._up()
        if not 1 <= len(key) <= 256:
            raise ValueError("1 to 256 bytes are wrapped")
        nonce = os.urandom(12)
        return "vault:v1:" + (nonce + self._wrapping.encrypt(nonce, key, None)).hex()

    async def unwrap(self, wrapped):
        self._up()
        try:
            data = bytes.fromhex(wrapped.removeprefix("vault:v1:"))
            return self._wrapping.decrypt(data[:12], data[12:], None)
        except (ValueError, InvalidTag):
            raise Rejected("vault-rejected", "not wrapped by this fake") from None


class FakeActVault(_Switch):
    """`targets`: name -> (environment, principal, source address). `ended` lists accessors in the order in which they were ended."""

    def __init__(self, targets, settings=None, *, clock=lambda: datetime.now(UTC)):
        super().__init__()
        self._targets, self._settings, self._clock = targets, settings or {}, clock
        self.ca = ed25519.Ed25519PrivateKey.generate()
        self.live, self.ended = {}, []
        self.serials = []
        """of every certificate under a receipt"""

    async def child(self, *, receipt, target):
        self._up()
        if target not in self._targets:
            raise Rejected("target-unknown", "no such target")
        number = os.urandom(8).hex()
        child = DeployToken("accessor-" + number, receipt, target, later(moment(self._clock()), seconds=600), token="secret-" + number)
        self.live[child.accessor] = 6
        return child

    async def ssh_certificate(self, child, *, public_key):
        if len(public_key) > 1024 or not public_key.startswith("ssh-ed25519 "):
            raise ValueError("an OpenSSH Ed25519 public key is expected")
        self._use(child)
        _, principal, source = self._targets[child.target]
        name = digest_hex(child.receipt)
        signed = self._certificate(public_key, name, principal, source, f"pingee-doorkeeper serve {name}")
        self.serials.append(signed.serial)
        return signed

    def _certificate(self, public_key, name, principal, source, command):
        now = self._clock().replace(microsecond=0)
        expires = now + timedelta(seconds=300)
        certificate = (
            SSHCertificateBuilder()
            .public_key(load_ssh_public_key(public_key.encode()))
            .serial(int.from_bytes(os.urandom(8)) >> 1)
            .type(SSHCertificateType.USER)
            .key_id(name.encode())
            .valid_principals([principal.encode()])
            .valid_after(int(now.timestamp()) - 30)
            .valid_before(int(expires.timestamp()))
            .add_critical_option(b"force-command", command.encode())
            .add_critical_option(b"source-address", source.encode())
            .sign(self.ca)
        )
        return SshCertificate(certificate.public_bytes().decode(), certificate.serial, Moment(expires))

    async def status_certificate(self, *, target, name, public_key):
        self._up()
        if len(public_key) > 1024 or not public_key.startswith("ssh-ed25519 "):
            raise ValueError("an OpenSSH Ed25519 public key is expected")
        if target not in self._targets:
            raise Rejected("target-unknown", "no such target")
        _, principal, source = self._targets[target]
        return self._certificate(public_key, name, principal, source, "pingee-doorkeeper status")

    async def settings(self, child, *, environment, component):
        self._use(child)
        if environment != self._targets[child.target][0]:
            raise Denied("vault-denied", "another environment")
        return dict(self._settings.get((environment, component), {}))

    async def end(self, accessor):
        self._up()
        self.live.pop(accessor, None)
        self.ended.append(accessor)

    def _use(self, child):
        self._up()
        if self.live.get(child.accessor, 0) < 1:
            raise Denied("vault-denied", "ended or used up")
        self.live[child.accessor] -= 1


class FakeRelay(_Switch):
    """`runs`: token -> (builder id, run URN)."""

    def __init__(self, runs):
        super().__init__()
        self.runs = runs
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake builder CA")])

    async def issue(self, *, token, csr_pem, builder_id, run_urn, platform=""):
        self._up()
        try:
            csr = x509.load_pem_x509_csr(csr_pem)
        except ValueError:
            raise Rejected("csr-malformed", "not a request") from None
        if not csr.is_signature_valid:
            raise Rejected("csr-malformed", "not signed with its own key")
        if token not in self.runs:
            raise Unauthenticated("token-refused", "unknown token")
        if self.runs[token] != (builder_id, run_urn):
            raise Denied("names-refused", "other names")
        now = datetime.now(UTC)
        dated = x509.CertificateBuilder().issuer_name(self._name).not_valid_before(now - timedelta(seconds=30))
        dated = dated.serial_number(x509.random_serial_number())
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(builder_id), x509.UniformResourceIdentifier(run_urn)])
        leaf = dated.subject_name(x509.Name([])).public_key(csr.public_key()).not_valid_after(now + timedelta(seconds=600))
        usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING])
        leaf = leaf.add_extension(san, critical=True).add_extension(usage, critical=False).sign(self._key, hashes.SHA256())
        ca = dated.subject_name(self._name).public_key(self._key.public_key()).not_valid_after(now + timedelta(days=1))
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(self._key, hashes.SHA256())
        return (leaf.public_bytes(Encoding.PEM), ca.public_bytes(Encoding.PEM))
