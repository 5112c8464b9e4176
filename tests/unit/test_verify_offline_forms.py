"""`pingee verify` on our own builders' bundles, bare envelopes and cosign's layers: exit codes, reasons, and every check that is skipped named."""

import base64
import json

import pytest

from clients.cli.main import main
from tests.fakes.foreign_bundles import statement
from tests.fakes.foreign_signers import FakeAuthority, FakeKey, FakeWorkload, sign
from tests.fakes.signing import ARTIFACT, BUILDER_ID, COMMIT, PROJECT, RUN, FakeCa, manifest_statement, provenance_statement
from tests.fakes.sigstore_instance import Instance

CA, KEY = FakeCa(), FakeKey()
RECEIVED = "2026-11-21T10:01:00Z"
OWN = ("--identity", BUILDER_ID, "--builder-ca", "ca.pem", "--received-at", RECEIVED)
SIGNED = ("--key", "key.pub", "--signature", "sig")


def simple(digest=ARTIFACT, kind="cosign container image signature", **more):
    critical = {"identity": {"docker-reference": "registry.demo/hello"}, "image": {"docker-manifest-digest": digest}, "type": kind}
    return json.dumps({"critical": critical, "optional": None} | more).encode()


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_bytes(CA.pem())
    (tmp_path / "other.pem").write_bytes(FakeCa().pem())
    (tmp_path / "key.pub").write_bytes(KEY.pem)
    (tmp_path / "other.pub").write_bytes(FakeKey().pem)
    return tmp_path


@pytest.fixture
def verify(files, capsys):
    def run(data, *words, command="bundle"):
        (files / "file.json").write_bytes(data)
        names = ["file.json", "--artifact", ARTIFACT] if command == "bundle" else [ARTIFACT, "--bundle", "file.json"]
        status = main(["verify", command, *names, *words, "-o", "json"])
        out, err = capsys.readouterr()
        return status, json.loads(out) if status in (0, 3) else err

    return run


def outcomes(report):
    return {check["name"]: check["outcome"] for check in report["checks"]}


def refused(answer, reason, failing, words=""):
    status, report = answer
    assert (status, report["reason"]) == (3, reason), report
    assert [name for name, outcome in outcomes(report).items() if outcome == "failed"] == [failing]
    assert words in report["detail"]


def test_a_run_of_our_own_is_verified_and_what_is_not_looked_at_is_named(verify):
    status, report = verify(CA.run().sign(manifest_statement()), *OWN)
    assert (status, report["verified"]) == (0, True)
    found = outcomes(report)
    assert {name for name, outcome in found.items() if outcome == "skipped"} == {
        "artifact", "issuer", "authorities", "timestamps", "transparency", "inclusion", "promise", "entry"
    }
    details = {check["name"]: check["detail"] for check in report["checks"]}
    assert details["identity"] == f"{BUILDER_ID}, urn:pingee:run:{PROJECT}:{COMMIT}:{RUN}"
    assert details["time"] == f"received at {RECEIVED}, as given: not looked up in the log"
    assert "pingee log" in details["inclusion"]


def test_provenance_of_a_run_of_our_own(verify):
    source = ("--source-uri", "https://git.demo/hello", "--source-ref", "refs/heads/main")
    words = ("--builder-id", BUILDER_ID, "--builder-ca", "ca.pem", "--received-at", RECEIVED)
    bundle = CA.run().sign(provenance_statement())
    assert verify(bundle, *words, *source, command="provenance")[0] == 0
    refused(verify(bundle, *words, "--source-uri", "https://git.demo/other", command="provenance"), "provenance-project", "source")


@pytest.mark.parametrize(
    ("words", "reason", "check"),
    [
        (("--identity", BUILDER_ID, "--builder-ca", "other.pem", "--received-at", RECEIVED), "unknown-builder", "path"),
        (("--identity", BUILDER_ID + "2", "--builder-ca", "ca.pem", "--received-at", RECEIVED), "unknown-builder", "identity"),
        (("--identity", BUILDER_ID, "--builder-ca", "ca.pem", "--received-at", "2026-11-21T10:10:01Z"), "certificate-expired", "validity"),
        (("--identity", BUILDER_ID, "--builder-ca", "ca.pem", "--received-at", "2026-11-21T09:59:59Z"), "certificate-expired", "validity"),
    ],
)
def test_a_run_that_is_not_the_expected_one_is_refused(verify, words, reason, check):
    refused(verify(CA.run().sign(manifest_statement()), *words), reason, check)


def test_without_a_time_the_certificate_is_judged_now(verify):
    old = CA.run(start=CA.authority.not_valid_before_utc).sign(manifest_statement())
    refused(verify(old, *OWN[:4]), "certificate-expired", "validity", "give the time of the statement's intake entry")


def test_other_signatures_kinds_and_subjects_are_refused(verify):
    good = json.loads(CA.run().sign(manifest_statement()))
    other = json.loads(CA.run().sign(provenance_statement()))
    spliced = good | {"dsseEnvelope": other["dsseEnvelope"]}
    refused(verify(json.dumps(spliced).encode(), *OWN), "bad-signature", "signature")
    refused(verify(CA.run().sign(manifest_statement(), payload_type="text/plain"), *OWN), "provenance-predicate", "payload-type")
    refused(verify(CA.run().sign(manifest_statement(artifact="sha256:" + "ab" * 32)), *OWN), "digest-mismatch", "subject")
    refused(verify(KEY.sign(manifest_statement()), *OWN), "unknown-builder", "signer", "bare key")
    refused(verify(Instance().sign(manifest_statement()), *OWN), "unknown-builder", "signer", "of another kind")
    refused(verify(FakeWorkload(FakeAuthority("td")).sign(manifest_statement()), *OWN), "unknown-builder", "usage")
    assert verify(b"{}", *OWN)[0] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--builder-ca", "ca.pem"), "--builder-ca goes with --identity"),
        (("--builder-ca", "key.pub", "--identity", BUILDER_ID), "not PEM certificates"),
        (("--builder-ca", "ca.pem", "--identity", BUILDER_ID, "--key", "key.pub"), "one kind of signer"),
        (("--builder-ca", "ca.pem", "--identity", BUILDER_ID, "--issuer", "https://i"), "one kind of signer"),
        (("--builder-ca", "ca.pem", "--identity", BUILDER_ID, "--received-at", "yesterday"), "--received-at must be a time such as"),
        (("--key", "key.pub", "--received-at", RECEIVED), "--received-at goes with --builder-ca"),
        (("--signature", "ca.pem"), "give --identity and --issuer, or --key, or --builder-ca"),
        (("--signature", "ca.pem", *OWN), "--signature goes with --key"),
        (("--signature", "ca.pem", "--key", "key.pub"), "is not base64"),
    ],
)
def test_flags_that_name_no_one_signer_end_with_1(verify, words, said):
    status, err = verify(CA.run().sign(manifest_statement()), *words)
    assert status == 1
    assert said in err


def bare(payload, **changes):
    return json.dumps(json.loads(KEY.sign(payload))["dsseEnvelope"] | changes).encode()


def test_a_bare_envelope_is_read_with_a_key(verify):
    status, report = verify(bare(manifest_statement()), "--key", "key.pub")
    assert (status, outcomes(report)["subject"], outcomes(report)["entry"]) == (0, "passed", "skipped")
    # cosign's .att layer: an in-toto v0.1 statement, and an empty key id
    old = json.dumps(statement(_type="https://in-toto.io/Statement/v0.1", subject=[{"name": "hello", "digest": {"sha256": ARTIFACT[7:]}}])).encode()
    layer = json.loads(bare(old))
    layer["signatures"][0]["keyid"] = ""
    assert verify(json.dumps(layer).encode(), "--key", "key.pub")[0] == 0


def test_a_bare_envelope_is_refused_by_another_key_or_without_one(verify):
    data = bare(manifest_statement())
    refused(verify(data, "--key", "other.pub"), "bad-signature", "signature")
    refused(verify(data, "--identity", BUILDER_ID, "--issuer", "https://i"), "unknown-builder", "signer", "bare key")
    refused(verify(bare(manifest_statement(), payloadType="text/plain"), "--key", "key.pub"), "bad-signature", "signature")
    refused(verify(bare(manifest_statement(artifact="sha256:" + "ab" * 32)), "--key", "key.pub"), "digest-mismatch", "subject")
    refused(verify(bare(manifest_statement(), signatures=[]), "--key", "key.pub"), "bad-signature", "signature")
    assert verify(bare(manifest_statement(), extra=1), "--key", "key.pub")[0] == 1
    assert verify(data, *OWN)[0] == 1


def test_cosigns_simple_signing_is_read_with_a_key(verify, files):
    def layer(data, *words, signed=None):
        (files / "sig").write_bytes(base64.b64encode(sign(KEY.key, data if signed is None else signed)) + b"\n")
        return verify(data, *(words or SIGNED))

    status, report = layer(simple())
    assert (status, outcomes(report)["artifact"], outcomes(report)["signature"], outcomes(report)["subject"]) == (0, "passed", "passed", "skipped")
    assert layer(simple(optional={"creator": "x"}))[0] == 0
    refused(layer(simple(digest="sha256:" + "ab" * 32)), "digest-mismatch", "artifact", "sha256:abab")
    refused(layer(simple(), signed=simple(optional={})), "bad-signature", "signature")
    refused(layer(simple(), "--key", "other.pub", "--signature", "sig"), "bad-signature", "signature")
    for data in (simple(kind="x"), simple(digest="latest"), simple(extra=1), b"{}", bare(manifest_statement())):
        assert layer(data)[0] == 1
