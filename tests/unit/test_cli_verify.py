"""`pingee verify bundle` and `pingee verify provenance` as commands: exit codes, and every output naming every check."""

import hashlib
import io
import json
import sys
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from clients.cli.main import main
from tests.fakes.foreign_bundles import pem, signed_statement

KEY = ec.generate_private_key(ec.SECP256R1())
BYTES = b"the artifact"
DIGESTS = {"sha256": hashlib.sha256(BYTES).hexdigest(), "sha512": hashlib.sha512(BYTES).hexdigest()}
PREDICATE = {
    "buildDefinition": {"externalParameters": {}, "resolvedDependencies": [{"uri": "git+https://git.example/hello@refs/heads/main"}]},
    "runDetails": {"builder": {"id": "https://ci.example/builder"}},
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subject = [{"name": "greeter", "digest": DIGESTS}]
    data = signed_statement(KEY, subject=subject, predicateType="https://slsa.dev/provenance/v1", predicate=PREDICATE)
    (tmp_path / "bundle.json").write_bytes(data)
    (tmp_path / "key.pub").write_bytes(pem(KEY))
    (tmp_path / "other.pub").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    (tmp_path / "artifact").write_bytes(BYTES)
    return tmp_path


def bundle(*more: str, artifact: str = "artifact", key: str = "key.pub") -> int:
    return main(["verify", "bundle", "bundle.json", "--artifact", artifact, "--key", key, *more])


def provenance(*more: str, source="https://git.example/hello", builder="https://ci.example/builder") -> int:
    words = ["--bundle", "bundle.json", "--source-uri", source, "--builder-id", builder, "--issuer", "https://i", "--key", "key.pub"]
    return main(["verify", "provenance", "artifact", *words, *more])


@pytest.mark.usefixtures("files")
def test_a_bundle_is_verified_for_a_file_and_for_a_digest(capsys):
    assert bundle() == 0
    assert "subject       passed   by sha256, the only one\n" in capsys.readouterr().out
    assert bundle(artifact="sha256:" + DIGESTS["sha256"]) == 0
    assert "not compared: sha512" in capsys.readouterr().out


@pytest.mark.usefixtures("files")
def test_another_key_or_artifact_is_refused_with_3(capsys):
    assert bundle(key="other.pub") == 3
    assert "refused (bad-signature)" in capsys.readouterr().err
    assert bundle(artifact="sha256:" + "00" * 32) == 3
    assert "refused (digest-mismatch)" in capsys.readouterr().err


def test_what_is_malformed_ends_with_1(files, capsys):
    (files / "bundle.json").write_bytes(b"{")
    assert bundle() == 1
    assert "bundle.json is malformed" in capsys.readouterr().err
    (files / "bundle.json").write_bytes(b" " * (1024 * 1024 + 1))
    assert bundle() == 1
    assert "more than 1048576 bytes" in capsys.readouterr().err


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("change", [{"artifact": "sha256:AB"}, {"artifact": "missing"}, {"key": "missing"}, {"key": "artifact"}])
def test_arguments_that_name_nothing_end_with_1(change):
    assert bundle(**change) == 1


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("words", [[], ["--identity", "x"], ["--issuer", "x"], ["--identity", "", "--issuer", "x"]])
def test_nobody_is_expected_by_leaving_out_a_name(words, capsys):
    assert main(["verify", "bundle", "bundle.json", "--artifact", "artifact", *words]) == 1
    assert "give --identity and --issuer, or --key" in capsys.readouterr().err


@pytest.mark.usefixtures("files")
def test_every_form_names_every_check(capsys):
    checks = {}
    for output in ("json", "junit", "sarif"):
        assert bundle("-o", output, key="other.pub") == 3
        out = capsys.readouterr().out
        if output == "junit":
            cases = ET.fromstring(out).findall("testcase")
            checks[output] = {case.get("name"): "failed" if case.find("failure") is not None else "skipped" if case.find("skipped") is not None else "passed" for case in cases}
        elif output == "json":
            document = json.loads(out)
            assert (document["verified"], document["reason"]) == (False, "bad-signature")
            checks[output] = {check["name"]: check["outcome"] for check in document["checks"]}
        else:
            sarif = json.loads(out)
            assert (sarif["version"], sarif["$schema"]) == ("2.1.0", "https://json.schemastore.org/sarif-2.1.0.json")
            (run,) = sarif["runs"]
            assert run["tool"]["driver"]["name"] == "pingee verify"
            assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [result["ruleId"] for result in run["results"]]
            assert all(result["message"]["text"] for result in run["results"])
            assert {(result["kind"], result["level"]) for result in run["results"]} == {("pass", "none"), ("fail", "error"), ("notApplicable", "none")}
            kinds = {"pass": "passed", "fail": "failed", "notApplicable": "skipped"}
            checks[output] = {result["ruleId"]: kinds[result["kind"]] for result in run["results"]}
    assert checks["json"] == checks["junit"] == checks["sarif"]
    assert checks["json"]["signature"] == "failed"
    assert checks["json"]["subject"] == "skipped"
    assert len(checks["json"]) == 19


@pytest.mark.usefixtures("files")
def test_provenance_is_verified_against_builder_source_and_ref(capsys):
    assert provenance() == 0
    assert provenance("--source-ref", "refs/heads/main") == 0
    capsys.readouterr()
    assert provenance("--source-ref", "refs/heads/maintenance") == 3
    assert "refused (provenance-project)" in capsys.readouterr().err
    assert provenance(source="https://git.example/hell") == 3
    assert provenance(builder="https://ci.example/build") == 3
    assert "refused (unknown-builder)" in capsys.readouterr().err


@pytest.mark.usefixtures("files")
def test_a_bundle_may_be_asked_to_be_of_one_predicate_type(capsys):
    assert bundle("--predicate-type", "https://slsa.dev/provenance/v1") == 0
    assert "predicate     passed   https://slsa.dev/provenance/v1\n" in capsys.readouterr().out
    assert bundle("--predicate-type", "https://cyclonedx.org/bom") == 3
    assert "refused (provenance-predicate)" in capsys.readouterr().err
    assert bundle("--predicate-type", "") == 1


def summary(*more: str, verifier="https://verifier.example") -> int:
    words = ["--bundle", "summary.json", "--verifier-id", verifier, "--resource-uri", "pkg:oci/hello", "--key", "key.pub"]
    return main(["verify", "summary", "artifact", *words, *more])


def test_a_summary_is_verified_against_verifier_resource_and_level(files, capsys):
    predicate = {
        "verifier": {"id": "https://verifier.example"},
        "timeVerified": "2026-11-21T11:00:00Z",
        "resourceUri": "pkg:oci/hello",
        "policy": {"uri": "https://verifier.example/policy"},
        "verificationResult": "PASSED",
        "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
    }
    subject = [{"name": "greeter", "digest": DIGESTS}]
    said = {"subject": subject, "predicateType": "https://slsa.dev/verification_summary/v1", "predicate": predicate}
    (files / "summary.json").write_bytes(signed_statement(KEY, **said))
    assert summary("--level", "SLSA_BUILD_LEVEL_3") == 0
    assert "resource      passed   pkg:oci/hello\n" in capsys.readouterr().out
    assert summary("--level", "SLSA_BUILD_LEVEL_4") == 3
    assert "refused (stage-missing)" in capsys.readouterr().err
    assert summary(verifier="https://verifier.example/") == 3
    assert "refused (unknown-builder)" in capsys.readouterr().err
    assert summary(verifier="") == 1


@pytest.mark.usefixtures("files")
def test_the_last_line_names_the_check_that_failed(capsys):
    assert bundle(key="other.pub") == 3
    assert capsys.readouterr().err.startswith("refused (bad-signature) at signature: ")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("artifact", ["missing", "", DIGESTS["sha256"], "SHA256:" + DIGESTS["sha256"], "sha512:" + DIGESTS["sha512"]])
def test_an_artifact_that_is_no_file_is_told_how_a_digest_is_written(artifact, capsys):
    assert bundle(artifact=artifact) == 1
    assert f"there is no file {artifact!r}; a digest is written sha256:" in capsys.readouterr().err


PUBLIC, PRIVATE = pem(KEY), KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", ""),
        (PRIVATE, ": it holds a private key, give its public half alone"),
        (PUBLIC + PRIVATE, ": it holds a private key, give its public half alone"),
        (CERTIFICATE, ": it holds a certificate, give the public key alone"),
        (PUBLIC + CERTIFICATE, ": it holds a certificate, give the public key alone"),
        (PUBLIC + PUBLIC, ": it holds more than one"),
    ],
)
def test_a_file_of_anything_but_one_public_key_is_no_key(files, capsys, data, said):
    (files / "key.pub").write_bytes(data)
    assert bundle() == 1
    assert capsys.readouterr().err == f"pingee: key.pub: the key file is not one PEM public key{said}\n"


@pytest.mark.parametrize("name", ["with space/b%41ü#1?.json", "scheme:b.json", "bad\udcff.json"])
def test_sarif_names_the_file_as_a_uri(files, capsys, name):
    (files / name).parent.mkdir(exist_ok=True)
    data = (files / "bundle.json").read_bytes()
    for said, uri in ((name, name), (str(files / name), f"file://{files / name}")):
        (files / name).write_bytes(data)
        assert main(["verify", "bundle", said, "--artifact", "artifact", "--key", "key.pub", "-o", "sarif"]) == 0
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        (found,) = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run["results"]}
        assert found.isascii()
        assert not set(found) & set(" #?%") - {"%"}
        assert ":" not in found.removeprefix("file://")
        assert unquote(found, errors="surrogateescape") == uri


@pytest.mark.parametrize("output", ["table", "json", "junit", "sarif"])
def test_a_terminal_without_unicode_is_answered_too(files, monkeypatch, output):
    data = signed_statement(KEY, subject=[{"name": "greeter", "digest": DIGESTS}], predicateType="https://example.org/é☃")
    (files / "bundle.json").write_bytes(data)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    assert bundle("-o", output) == 0
    text = raw.getvalue().decode("ascii" if output != "table" else "latin-1")
    match output:
        case "json":
            said = {check["detail"] for check in json.loads(text)["checks"]}
        case "sarif":
            said = {result["message"]["text"] for result in json.loads(text)["runs"][0]["results"]}
        case "junit":
            said = {case.findtext("system-out") for case in ET.fromstring(text)}
        case _:
            said = {line.partition("passed   ")[2].replace(r"\u2603", "☃") for line in text.splitlines()}
    assert "in-toto, https://example.org/é☃" in said


@pytest.mark.usefixtures("files")
def test_a_word_that_a_pipeline_left_empty_is_named(capsys):
    for flag, code in (
        ("--predicate-type", lambda: bundle("--predicate-type", "")),
        ("--source-uri", lambda: provenance(source="")),
        ("--builder-id", lambda: provenance(builder="")),
        ("--source-ref", lambda: provenance("--source-ref", "")),
        ("--verifier-id", lambda: summary(verifier="")),
        ("--resource-uri", lambda: summary("--resource-uri", "")),
        ("--level", lambda: summary("--level", "x", "--level", "")),
    ):
        assert code() == 1
        assert capsys.readouterr().err == f"pingee: {flag} is empty: nothing would be expected\n"
