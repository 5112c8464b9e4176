"""Every door that takes JSON has the one strict loader behind it: attack matrix 18-22, door by door, each refusal with its reason."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.fault import BuildFault
from builder.identity import claimed_run
from builder.submit import _missing
from clients.cli.exits import Failure
from clients.cli.server import Server, _check
from clients.doorkeeper import artifact as door_artifact
from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.record import Record
from clients.doorkeeper.state import load_memory
from clients.doorkeeper.workload import find_process
from gatekeeper.adapters.layout import _load_index
from gatekeeper.adapters.ssh import parse_answer
from gatekeeper.deploy import stored
from gatekeeper.model.caller import CallerKind
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import digest_of
from gatekeeper.model.fields import FieldError
from gatekeeper.model.frame import MalformedFrame, PartName, PartSpec, encode_header, parse_header
from gatekeeper.model.receipt import parse_receipt
from gatekeeper.model.statement import parse_decision_statement
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.ports.errors import Unavailable
from gatekeeper.settings import BadSettings, parse_wrapped
from gatekeeper.tlog.entry import parse_entry
from gatekeeper.tlog.errors import MalformedEntry
from gatekeeper.verify.bundle import parse_bundle
from gatekeeper.verify.dsse import envelope_json, parse_envelope
from gatekeeper.verify.errors import MalformedBundle, MalformedEnvelope, MalformedKey, MalformedStatement
from gatekeeper.verify.statement import parse_statement
from gatekeeper.verify.token import Issuer, Unauthenticated, parse_key_set, verify_token
from tests.fakes import frames, signing
from tests.fakes.hostile_json import spoil

NOW = 1_795_255_260
DIGEST = digest_of(b"x")
CI = signing.FakeIssuer()
GATEKEEPER = frames.Gatekeeper()
ARTIFACT = frames.make_artifact()
RECEIPT = GATEKEEPER.receipt(GATEKEEPER.statement(ARTIFACT))
ENTRY = next(iter(sorted((Path(__file__).parents[1] / "assets" / "log").glob("*.json")))).read_bytes()


def verify(header: bytes, claims: bytes) -> object:
    issuer = Issuer("ci", CI.url, CallerKind.RUN, frozenset({"pingee:test"}), parse_key_set(CI.jwks(), algorithms=["ES256"]))
    return verify_token(CI.token(claims, header=header), [issuer], audience="pingee:test", now=NOW)


HEADER = b'{"alg":"ES256","kid":"k1","typ":"JWT"}'
CLAIMS = json.dumps(signing.run_claims(NOW)).encode()


@dataclass(frozen=True)
class Door:
    """`read` takes the bytes as the door does, and raises `refusal` for what it refuses. `vague`: its words show nothing of a secret line."""

    good: bytes
    read: Any
    refusal: type[Exception] | tuple[type[Exception], ...]
    integer: str | None = None
    vague: str | None = None


def placed(path: Path, data: bytes) -> Place:
    place = Place.below(path)
    place.var.mkdir(parents=True, exist_ok=True)
    return place


def read_state(directory, data):
    place = placed(directory, data)
    place.state.write_bytes(data)
    return load_memory(place)


def read_process(directory, data):
    place = placed(directory, data)
    place.process("hello").parent.mkdir(exist_ok=True)
    place.process("hello").write_bytes(data)
    return find_process(place, "hello")


def read_record(directory, data):
    place = placed(directory, data)
    (place.var / "record.jsonl").write_bytes(data.replace(b"\n", b" ") + b"\n")
    (place.var / "record.head").write_text(digest_of(data.replace(b"\n", b" ")))
    return Record(place).verify()


def read_index(directory, data):
    (directory / "index.json").write_bytes(data)
    return _load_index(directory)


MEMORY = encode_canonical({"v": 1, "checkpoint": None, "components": {}})
LINE = encode_canonical({"v": 1, "at": "2026-11-21T10:00:00Z", "what": "refused", "previous": digest_of(b"")})
PROCESS = encode_canonical({"pid": 4_000_000, "started": 1, "boot": "b", "receipt": DIGEST})
STATEMENT = signing.manifest_statement()
WRAPPED = json.dumps({name: {"role_id": "r", "token": "secret-canary"} for name in ("log", "decide", "act")}).encode()
PAYLOAD = json.loads(RECEIPT)["statement"]["payload"]

DOORS = {
    "DSSE envelope": Door(encode_canonical(envelope_json("t", STATEMENT, [("", b"s")])), parse_envelope, MalformedEnvelope),
    "bundle": Door(signing.FakeCa().run().sign(STATEMENT), parse_bundle, MalformedBundle),
    "statement in an envelope": Door(STATEMENT, parse_statement, MalformedStatement),
    "decision statement": Door(base64.b64decode(PAYLOAD), parse_decision_statement, (MalformedJson, FieldError, ValueError)),
    "header of a frame": Door(
        encode_header([PartSpec(PartName.RECEIPT, 1, DIGEST)])[:-1], lambda data: parse_header(data + b"\n"), MalformedFrame, "size"
    ),
    "receipt": Door(RECEIPT, parse_receipt, (MalformedJson, FieldError), "index"),
    "entry of the log": Door(ENTRY, parse_entry, MalformedEntry, "v"),
    "header of a token": Door(HEADER, lambda data: verify(data, CLAIMS), Unauthenticated),
    "claims of a token": Door(CLAIMS, lambda data: verify(HEADER, data), Unauthenticated, "exp"),
    "key set": Door(CI.jwks(), lambda data: parse_key_set(data, algorithms=["ES256"]), MalformedKey),
    "OCI manifest, gatekeeper": Door(ARTIFACT.manifest, stored.parse_oci_manifest, stored.MalformedArtifact, "schemaVersion"),
    "artifact config, gatekeeper": Door(ARTIFACT.config, stored.parse_config, stored.MalformedArtifact),
    "OCI manifest, doorkeeper": Door(ARTIFACT.manifest, door_artifact.parse_manifest, door_artifact.MalformedArtifact, "schemaVersion"),
    "artifact config, doorkeeper": Door(ARTIFACT.config, door_artifact.parse_config, door_artifact.MalformedArtifact, "grace_s"),
    "answer of a target": Door(b'{"stale":1}', lambda data: parse_answer(data, 5, DIGEST), (MalformedJson, FieldError), "stale"),
    "wrapped logins": Door(WRAPPED, parse_wrapped, BadSettings, vague="standard input must hold one JSON line"),
    "answer to a builder": Door(
        encode_canonical({"missing": [{"digest": DIGEST, "upload": "/v1/artifacts/x"}]}), lambda data: _missing("test", data), BuildFault
    ),
    "builder's own token": Door(
        CLAIMS, lambda data: claimed_run(f"x.{signing.b64url(data)}.x"), BuildFault, vague="it is no JSON web token|must be an object"
    ),
    "answer to the command line": Door(b'{"id":"x"}', lambda data: Server._document(None, data), Failure),  # type: ignore[arg-type]
}
FILES = {
    "state.json": Door(MEMORY, read_state, Unreadable, "v"),
    "record.jsonl": Door(LINE, read_record, Unreadable),
    "process file": Door(PROCESS, read_process, Unreadable, "started"),
    "index.json of the artifacts": Door(
        encode_canonical({"manifests": [], "schemaVersion": 2}), read_index, Unavailable, vague="index.json of the artifact directory does not parse"
    ),
}


def refused(door, read):
    for case in spoil(door.good, integer=door.integer):
        with pytest.raises(door.refusal) as caught:
            read(case.data)
        # The loader's words, wherever the door passes them on.
        assert re.search(door.vague or case.words, str(caught.value)), f"{case.name}: {caught.value}"
        assert "secret-canary" not in str(caught.value)
        assert not isinstance(caught.value, RecursionError)


@pytest.mark.parametrize("name", DOORS)
def test_nothing_that_can_be_read_in_two_ways_passes_this_door(name):
    door = DOORS[name]
    door.read(door.good)  # the good one passes: what is refused below is refused for what was done to it
    refused(door, door.read)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_our_own_is_read_as_strictly(name, tmp_path):
    door = FILES[name]
    door.read(tmp_path, door.good)
    refused(door, lambda data: door.read(tmp_path, data))


def test_a_problem_document_that_is_none_is_told_by_its_status():
    for case in spoil(b'{"code":"not-found","detail":"no","status":404}', integer="status"):
        with pytest.raises(Failure, match=r"internal: HTTP 500 without a problem document|not-found: no"):
            _check(500, case.data)


def test_no_lax_reader_of_json_is_in_the_tree():
    root, lax = Path(__file__).parents[2], set()
    for room in ("gatekeeper", "builder", "clients"):
        for file in (root / room).rglob("*.py"):
            if re.search(r"json\.loads?\(|\.json\(\)", file.read_text()) and "clients/demo" not in str(file):
                lax.add(str(file.relative_to(root)))
    # A referrer's `subject` in manifests of other makers, and bubblewrap's own report on a pipe that only it writes to.
    assert lax == {"gatekeeper/adapters/manifests.py", "builder/sandbox.py"}
