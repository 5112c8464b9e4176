"""`pingee submit` at a real TLS port: what a foreign CI built and tested is signed under the run's certificate, and the intake takes it."""

import json
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from clients.cli.main import main
from clients.demo.certificate import make_certificate
from gatekeeper.api.listen import open_listener
from gatekeeper.model import uris
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.verify.bundle import parse_bundle
from gatekeeper.verify.statement import parse_statement
from tests.fakes import signing
from tests.fakes.api import running_api
from tests.fakes.frames import make_layer
from tests.fakes.house import OLD_COMMIT, House

pytestmark = pytest.mark.anyio
JUNIT = '<testsuite><testcase classname="app.Greets" name="hello"/><testcase name="bye">{}</testcase><testcase name="later"><skipped/></testcase></testsuite>'


class CaRelay:
    """The vault's part: a certificate of the house's builder CA, with the names that the gatekeeper asks for."""

    def __init__(self, ca):
        self.ca, self.asked = ca, []

    async def issue(self, *, token, csr_pem, builder_id, run_urn, platform=""):
        await trio.lowlevel.checkpoint()
        self.asked.append((builder_id, run_urn, platform))
        names = (x509.UniformResourceIdentifier(builder_id), x509.UniformResourceIdentifier(run_urn))
        made = self.ca.certificate(names=names, key=x509.load_pem_x509_csr(csr_pem))
        return (x509.load_der_x509_certificate(made.certificate).public_bytes(Encoding.PEM),)


def write_layout(directory, *, commit=OLD_COMMIT):
    layer = make_layer({"greeter.py": b"print('hello')\n", "data/one.txt": b"1"})
    source = {"repository": signing.REPOSITORY, "commit": commit, "tree": "2" * 40}
    config = encode_canonical({"component": "hello", "run": {"argv": ["python3", "greeter.py"], "health": "/healthz", "grace_s": 5}, "source": source})
    manifest = encode_canonical(
        {
            "schemaVersion": 2,
            "mediaType": uris.OCI_MANIFEST,
            "artifactType": uris.ARTIFACT_TYPE,
            "config": {"mediaType": uris.ARTIFACT_CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": uris.OCI_LAYER_TAR, "digest": digest_of(layer), "size": len(layer)}],
        }
    )
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for data in (layer, config, manifest):
        (blobs / digest_hex(digest_of(data))).write_bytes(data)
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    described = {"mediaType": uris.OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return digest_of(manifest)


class Job:
    """A foreign CI's working directory, and its token files."""

    def __init__(self, api, directory, authority):
        self.api, self.dir = api, directory
        self.url, self.ca = f"https://localhost:{api.port}", authority
        self.artifact = write_layout(directory / "layout")
        (directory / "results").mkdir()
        self.results("")
        (directory / "job.yml").write_text("script: make\n")
        (directory / "build.log").write_text("built\n")
        self.tokens()

    def results(self, body):
        (self.dir / "results" / "unit.xml").write_text(JUNIT.format(body))

    def tokens(self, **changes):
        for name, audience in (("token", "pingee:production"), ("certificate-token", "pingee:certificates:production")):
            claims = {"commit": OLD_COMMIT, "aud": audience, "jti": f"jti-{name}", **changes}
            file = self.dir / name
            file.write_text(self.api.run_token(**claims))
            file.chmod(0o600)

    async def submit(self, *more, without=()):
        named = {
            "--results": "results", "--definition": "job.yml", "--certificate-token-file": "certificate-token", "--log": "build.log", "--token-file": "token",
        }  # fmt: skip
        flags = [text for flag, name in named.items() if flag not in without for text in (flag, str(self.dir / name))]
        words = ["submit", str(self.dir / "layout"), "--server", self.url, "--ca-file", str(self.ca), "-o", "json", *flags, *more]
        return await trio.to_thread.run_sync(partial(main, words))

    def statements(self):
        rows = self.api.house.database.state.statements.values()
        return {row.kind: parse_statement(parse_bundle(row.bundle).envelope.payload) for row in rows}


@pytest.fixture(autouse=True)
def _seen(monkeypatch):
    """The command runs in the tests' own process, which stays as it is."""
    monkeypatch.setattr("clients.cli.submit.hide_memory", lambda: None)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    make_certificate(directory, "gatekeeper CA")
    return directory


@asynccontextmanager
async def working(certificates, directory):
    house = House()
    listener = open_listener("127.0.0.1", 0, certificate=certificates / "tls.pem", key=certificates / "tls.key")
    async with running_api(house, listener=listener, relay=CaRelay(house.ca)) as api:
        yield Job(api, directory, certificates / "ca.pem")


async def test_what_a_foreign_ci_built_and_tested_is_taken_whole(certificates, tmp_path, capsys):
    async with working(certificates, tmp_path) as job:
        assert await job.submit() == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["artifact"], found["project"], found["commit"], found["run"]) == (job.artifact, "hello", OLD_COMMIT, "run-1")
        assert (found["result"], found["passed"], found["failed"]) == ("PASSED", "2", "0")
        assert job.api.parts.relay.asked == [(signing.BUILDER_ID, f"urn:pingee:run:hello:{OLD_COMMIT}:run-1", "")]
        assert set(job.statements()) == {"manifest", "provenance", "test-result"}
        assert [digest for digest, *_ in job.api.house.artifacts.listed] == [job.artifact]
        outputs = job.statements()["manifest"].predicate.raw("outputs")
        assert [(o["path"], o["size"]) for o in outputs] == [("data/one.txt", 1), ("greeter.py", 15)]
        parameters = job.statements()["provenance"].predicate.nested("buildDefinition").nested("externalParameters")
        assert (parameters.text("config"), parameters.text("commit")) == ("job.yml", OLD_COMMIT)
        assert job.statements()["test-result"].predicate.raw("passedTests") == ["app.Greets.hello", "bye"]
        assert digest_of(b"built\n") in job.api.house.artifacts.blobs


@pytest.mark.parametrize("bad", ["failure", "error"])
async def test_a_failed_test_is_said_and_submitted(certificates, tmp_path, capsys, bad):
    async with working(certificates, tmp_path) as job:
        job.results(f"<{bad}>no</{bad}>")
        assert await job.submit() == 0
        assert json.loads(capsys.readouterr().out)["result"] == "FAILED"
        result = job.statements()["test-result"].predicate
        assert (result.raw("result"), result.raw("failedTests")) == ("FAILED", ["bye"])


@pytest.mark.parametrize(
    "suite",
    [
        '<testsuite name="broken" tests="0" failures="0" errors="1"/>',
        '<testsuites><testsuite name="broken" tests="1" failures="1"><testcase name="fine"/></testsuite></testsuites>',
        '<testsuite name="broken"><error>cannot be loaded</error></testsuite>',
    ],
    ids=["errors", "failures", "an element"],
)
async def test_a_suite_that_failed_as_a_whole_is_no_pass(certificates, tmp_path, capsys, suite):
    async with working(certificates, tmp_path) as job:
        (job.dir / "results" / "broken.xml").write_text(suite)
        assert await job.submit() == 0
        assert json.loads(capsys.readouterr().out)["result"] == "FAILED"
        assert job.statements()["test-result"].predicate.raw("failedTests") == ["broken"]


async def refused(job, capsys, status, words, *more, logged=0, without=()):
    assert await job.submit(*more, without=without) == status
    assert words in capsys.readouterr().err
    assert len(job.api.house.database.state.statements) == logged


async def test_a_certificate_token_is_good_once(certificates, tmp_path, capsys):
    async with working(certificates, tmp_path) as job:
        assert await job.submit() == 0
        capsys.readouterr()
        await refused(job, capsys, 4, "used for a certificate before", logged=3)


async def test_an_artifact_of_another_commit_is_not_signed(certificates, tmp_path, capsys):
    async with working(certificates, tmp_path) as job:
        job.tokens(commit="e" * 40)
        await refused(job, capsys, 3, "the artifact names commit")


async def test_a_token_of_another_door_or_project_is_refused_by_the_gatekeeper(certificates, tmp_path, capsys):
    async with working(certificates, tmp_path) as job:
        (job.dir / "certificate-token").write_text((job.dir / "token").read_text())
        await refused(job, capsys, 4, "not meant for this audience")
        job.tokens(project="other")
        await refused(job, capsys, 3, "does not trust this builder for this project")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: (d / "layout" / "oci-layout").write_text("{}"), "imageLayoutVersion"),
        (lambda d: (d / "layout" / "index.json").write_text('{"manifests":[]}'), "holds no artifact"),
        (lambda d: [p.write_bytes(p.read_bytes() + b"x") for p in (d / "layout" / "blobs" / "sha256").iterdir()], "is not that of the blob's bytes"),
        (lambda d: (d / "results" / "unit.xml").unlink(), "no test that ran"),
        (lambda d: (d / "results" / "unit.xml").write_text("<testsuite><testcase name='a'><skipped/></testcase></testsuite>"), "no test that ran"),
        (lambda d: (d / "results" / "unit.xml").write_text("<testsuite"), "is no XML"),
        (lambda d: (d / "results" / "unit.xml").write_text('<!DOCTYPE t [<!ENTITY a "b">]><t>&a;</t>'), "a document type"),
        (lambda d: (d / "results" / "unit.xml").write_bytes('<!DOCTYPE t [<!ENTITY a "b">]><t>&a;</t>'.encode("utf-16")), "an encoding"),
        (lambda d: (d / "results" / "unit.xml").write_text('<?xml version="1.0" encoding="big5"?><t/>'), "is no XML"),
        (lambda d: (d / "certificate-token").chmod(0o644), "may be read by others"),
    ],
    ids=["no layout", "no manifest", "other bytes", "no results", "all skipped", "no XML", "entities", "entities in UTF-16", "a wide encoding", "open token"],
)
async def test_what_is_not_fit_to_be_signed_is_not(certificates, tmp_path, capsys, spoil, words):
    async with working(certificates, tmp_path) as job:
        spoil(job.dir)
        await refused(job, capsys, 1, words)
        assert job.api.parts.relay.asked == []


async def test_statements_that_another_signer_signed_are_submitted_as_they_are(certificates, tmp_path, capsys):
    async with working(certificates, tmp_path) as job:
        assert await job.submit() == 0
        capsys.readouterr()
        names = []
        for number, row in enumerate(job.api.house.database.state.statements.values()):
            (tmp_path / f"{number}.bundle").write_bytes(row.bundle)
            names += ["--bundle", str(tmp_path / f"{number}.bundle")]
        assert await job.submit(*names, without=["--certificate-token-file", "--results", "--definition"]) == 0
        assert json.loads(capsys.readouterr().out)["statements"] == "3"
        assert len(job.api.parts.relay.asked) == 1, "what is signed needs no certificate"
    async with working(certificates, tmp_path / "second") as job:
        await refused(job, capsys, 3, "no trusted builder root", *names)
        (tmp_path / "0.bundle").write_text("{}")
        await refused(job, capsys, 1, "is no bundle", *names[:2])


async def test_nothing_is_submitted_without_a_word_on_what_was_tested(certificates, tmp_path, capsys):
    async with working(certificates, tmp_path) as job:
        for flag in ("--results", "--definition", "--certificate-token-file"):
            await refused(job, capsys, 1, "give --results, --definition", without=[flag])
        await refused(job, capsys, 1, "give --server and --token-file", without=["--token-file"])
