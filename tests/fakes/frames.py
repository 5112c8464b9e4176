"""A gatekeeper in miniature: a log in memory, keys, artifacts and receipts, so that doorkeepers can be given real frames."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekeeper.model import uris
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.decision import EvidenceItem, Mode, Purpose, Verdict
from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.frame import PartName, encode_header
from gatekeeper.model.moment import Moment, later, moment
from gatekeeper.model.receipt import encode_receipt
from gatekeeper.model.statement import DecisionStatement, encode_decision_statement
from gatekeeper.ports.target import Part
from gatekeeper.tlog.checkpoint import Checkpoint, encode_checkpoint
from gatekeeper.tlog.consistency import Growth, encode_growth
from gatekeeper.tlog.entry import encode_entry
from gatekeeper.tlog.kinds import DecisionEntry, RolePeople
from gatekeeper.tlog.merkle import EMPTY_ROOT, CompactRange, leaf_hash, node_hash, prove_consistency, prove_inclusion
from gatekeeper.tlog.note import Note, NoteSignature, ed25519_vkey, encode_note, encode_vkey
from gatekeeper.tlog.proof import TlogProof, encode_proof
from gatekeeper.verify.dsse import envelope_json, pae
from gatekeeper.verify.rollback import BundleMember, RollbackBundle, encode_rollback_bundle

ORIGIN = "production.test/log/2026"
COMMIT = "c" * 40
GREETER = b"""
import http.server, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" or self.path == "/" else 404)
        self.end_headers()
        self.wfile.write((os.environ.get("GREETING", "none") + " VERSION").encode())
    def log_message(self, *_):
        pass
print("up", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def now() -> Moment:
    return moment(datetime.now(UTC))


class MemoryLog:
    """A log that a test appends to; `fork` gives another with the same key and other entries."""

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        self.key = key or Ed25519PrivateKey.generate()
        self.vkey = ed25519_vkey(ORIGIN, self.key.public_key().public_bytes_raw())
        self.entries: list[bytes] = []
        self.witness = None
        """a `FakeWitness` that cosigns every note of this log, and of no fork of it"""

    def append(self, entry: bytes) -> int:
        self.entries.append(entry)
        return len(self.entries) - 1

    def fork(self) -> MemoryLog:
        return MemoryLog(self.key)

    def root(self, size: int) -> bytes:
        tree = CompactRange.empty()
        for entry in self.entries[:size]:
            tree = tree.append(leaf_hash(entry))
        return tree.root() if size else EMPTY_ROOT

    def note(self, size: int | None = None) -> bytes:
        size = len(self.entries) if size is None else size
        text = encode_checkpoint(Checkpoint(self.vkey.name, size, self.root(size)))
        note = Note(text, (NoteSignature(self.vkey.name, self.vkey.key_id, self.key.sign(text)),))
        return encode_note(note if self.witness is None else note.with_signatures((self.witness.sign(text),)))

    def proof(self, index: int, size: int | None = None) -> bytes:
        size = len(self.entries) if size is None else size
        return encode_proof(TlogProof(index, tuple(prove_inclusion(index, size, self._node)), self.note(size)))

    def growth(self, old: int, size: int | None = None) -> bytes:
        size = len(self.entries) if size is None else size
        path = tuple(prove_consistency(old, size, self._node)) if 0 < old < size else ()
        return encode_growth(Growth(old, path, self.note(size)))

    def _node(self, level: int, n: int) -> bytes:
        if level == 0:
            return leaf_hash(self.entries[n])
        return node_hash(self._node(level - 1, 2 * n), self._node(level - 1, 2 * n + 1))


@dataclass(frozen=True)
class Artifact:
    manifest: bytes
    config: bytes
    layer: bytes

    @property
    def digest(self) -> Digest:
        return digest_of(self.manifest)


def make_layer(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def make_artifact(
    version: str = "1", *, component: str = "hello", argv: list[str] | None = None, grace_s: int = 5, layer: bytes | None = None
) -> Artifact:
    layer = make_layer({"greeter.py": GREETER.replace(b"VERSION", version.encode())}) if layer is None else layer
    run = {"argv": argv or ["python3", "greeter.py", "{port}"], "health": "/healthz", "grace_s": grace_s}
    config = encode_canonical({"component": component, "run": run, "source": {"repository": "r", "commit": COMMIT, "tree": "d" * 40}})
    manifest = encode_canonical(
        {
            "schemaVersion": 2,
            "mediaType": uris.OCI_MANIFEST,
            "artifactType": uris.ARTIFACT_TYPE,
            "config": {"mediaType": uris.ARTIFACT_CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": uris.OCI_LAYER_TAR, "digest": digest_of(layer), "size": len(layer)}],
            "annotations": {"org.opencontainers.image.revision": COMMIT},
        }
    )
    return Artifact(manifest, config, layer)


def parts_of(items: dict[PartName, bytes]) -> tuple[Part, ...]:
    return tuple(Part(name, items[name], len(items[name]), digest_of(items[name])) for name in PartName if name in items)


def frame_of(parts: tuple[Part, ...]) -> bytes:
    return encode_header([p.spec for p in parts]) + b"".join(p.source for p in parts if isinstance(p.source, bytes))


@dataclass
class Gatekeeper:
    """Decides nothing: it signs and logs whatever a test wants, right or wrong."""

    log: MemoryLog = field(default_factory=MemoryLog)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    instance: str = "production"
    target: str = "host-1"

    @property
    def log_policy(self) -> bytes:
        if (witness := self.log.witness) is not None:
            return f"log {encode_vkey(self.log.vkey)}\nwitness w {encode_vkey(witness.vkey)}\nquorum w\n".encode()
        return f"log {encode_vkey(self.log.vkey)}\nquorum none\n".encode()

    @property
    def receipt_keys(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def statement(
        self, artifact: Artifact, *, at: Moment | None = None, seconds: int = 600, configuration: bytes = b"", **changes
    ) -> DecisionStatement:
        at = at or now()
        statement = DecisionStatement(
            instance=self.instance,
            environment="production",
            component="hello",
            subject=artifact.digest,
            policy=digest_of(b"policy"),
            trusted_root=digest_of(b"root"),
            candidate_config=COMMIT,
            verdict=Verdict.ALLOW,
            reasons=(),
            mode=Mode.ENFORCE,
            purpose=Purpose.DEPLOY,
            targets=(self.target,),
            evidence=(
                EvidenceItem("manifest", "present", artifact.digest),
                EvidenceItem("configuration", "present", digest_of(configuration)),
            ),
            evaluated_at=Moment(at - timedelta(seconds=1)),
            not_after=later(at, seconds=seconds),
        )
        return replace(statement, **changes)

    def receipt(
        self, statement: DecisionStatement, *, log: MemoryLog | None = None, entry_changes: dict | None = None, sign_other: bool = False
    ) -> bytes:
        """Sign and log a statement; the receipt's bytes. `entry_changes` and `sign_other` make the two disagree."""
        log = log or self.log
        payload = encode_decision_statement(statement)
        signed = pae(uris.IN_TOTO_PAYLOAD, payload + b" " if sign_other else payload)
        envelope = envelope_json(uris.IN_TOTO_PAYLOAD, payload, [("", self.key.sign(signed, ec.ECDSA(hashes.SHA256())))])
        entry = encode_entry(replace(_entry(statement, payload), **(entry_changes or {})))
        index = log.append(entry)
        return encode_receipt(statement=envelope, entry=entry, index=index, origin=ORIGIN, evidence=())

    def items(
        self,
        artifact: Artifact,
        receipt: bytes,
        *,
        index: int,
        old: int,
        settings: bytes = b"",
        configuration: bytes = b"",
        log: MemoryLog | None = None,
    ) -> dict[PartName, bytes]:
        log = log or self.log
        return {
            PartName.RECEIPT: receipt,
            PartName.PROOF: log.proof(index),
            PartName.CONSISTENCY: log.growth(old),
            PartName.MANIFEST: artifact.manifest,
            PartName.CONFIG: artifact.config,
            PartName.CONFIGURATION: configuration,
            PartName.LAYER: artifact.layer,
            PartName.SETTINGS: settings,
        }

    def bundle(self, members: list[tuple[bytes, int]], *, log: MemoryLog | None = None, key=None, others=(), **changes) -> bytes:
        """A rollback bundle over receipts and their indices, the deploy's own first; `others` are members with proofs of their own."""
        log = log or self.log
        named = {"instance": self.instance, "environment": "production", "component": "hello", "target": self.target, "reported": ()} | changes
        proven = (*(BundleMember(receipt, log.proof(index)) for receipt, index in members), *others)
        payload = encode_rollback_bundle(RollbackBundle(members=proven, **named))
        signature = (key or self.key).sign(pae(uris.ROLLBACK_BUNDLE, payload), ec.ECDSA(hashes.SHA256()))
        return encode_canonical(envelope_json(uris.ROLLBACK_BUNDLE, payload, [("", signature)]))

    def deploy(
        self, artifact: Artifact, *, old: int, settings: bytes = b"", configuration: bytes | None = None, **changes
    ) -> tuple[Digest, dict[PartName, bytes]]:
        """An honest Allow for the artifact: the receipt's id and the parts of its frame. `settings` are secrets; the configuration names them."""
        configuration = naming(settings) if configuration is None else configuration
        receipt = self.receipt(self.statement(artifact, configuration=configuration, **changes))
        index = len(self.log.entries) - 1
        return digest_of(receipt), self.items(artifact, receipt, index=index, old=old, settings=settings, configuration=configuration)


def naming(settings: bytes) -> bytes:
    """The configuration that names these secrets, and holds nothing else."""
    names = sorted(line.partition(b"=")[0].decode() for line in settings.splitlines())
    return f"secrets = {json.dumps(names)}\n".encode()


def _entry(statement: DecisionStatement, payload: bytes) -> DecisionEntry:
    return DecisionEntry(
        entry_id=secrets.token_hex(16),
        origin=ORIGIN,
        at=statement.evaluated_at,
        config=COMMIT,
        ping_id=secrets.token_hex(16),
        landing=None,
        purpose=statement.purpose,
        mode=statement.mode,
        requester="p:" + "0" * 32,  # type: ignore[arg-type]
        on_behalf_of=None,
        people=RolePeople((), (), ()),
        environment=statement.environment,
        component=statement.component,
        artifact=statement.subject,
        candidate_config=statement.candidate_config,
        target=statement.targets,
        subjects=(statement.subject,),
        verdict=statement.verdict,
        reasons=statement.reasons,
        policy=statement.policy,
        trusted_root=statement.trusted_root,
        evidence=(),
        statement=digest_of(payload),
        not_after=statement.not_after,
        supersedes=None,
    )


