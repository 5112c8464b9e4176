"""`pingee-builder run` as people start it: real git, real bubblewrap, a TLS intake that verifies what it is sent."""

import base64
import datetime as dt
import hashlib
import ipaddress
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from builder.fault import BuildFault
from builder.sandbox import Limits, Sandbox
from builder.workspace import Bounds, Workspace
from gatekeeper.model.facts import ArtifactManifest, Provenance, TestResult
from gatekeeper.model.moment import moment
from gatekeeper.verify.builder import BuilderRoot
from gatekeeper.verify.submission import verify_submission

ROOT = Path(__file__).resolve().parents[2]
ORDINARY = 12345
TAIL = 'artifact:\n  paths: [out/]\nrun:\n  argv: ["out/x"]\n  health: /\n'
BUILDER_ID = "https://ci.demo/builder"


def git(repository, *arguments):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(repository), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=a", "-c", "user.email=a@demo", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=repository, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


def commit(repository, files):
    for name, text in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if not (repository / ".git").exists():
        git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "change")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "hello"
    path.mkdir()
    return path


def pipeline(build, test, timeout="20s"):
    return f"version: 1\ncommit:\n  build: {json.dumps(build)}\n  test: {json.dumps(test)}\n  timeout: {timeout}\n{TAIL}"


def builder(*arguments, prefix=(), interpreter=sys.executable, timeout=60, env=None):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]), **(env or {})}
    command = [*prefix, interpreter, "-P", "-m", "builder.cli", "run", *map(str, arguments), "-o", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    return done, json.loads(done.stdout) if done.stdout.startswith("{") else None


def run(repository, revision, *arguments, **keywords):
    return builder(repository, revision, "--no-submit", *arguments, **keywords)


def test_a_build_passes_and_leaves_nothing(repository, tmp_path):
    before = set(Path("/tmp").glob("pingee-build-*"))
    revision = commit(repository, {".pipeline/config.yaml": pipeline(["mkdir out; echo hi > out/x"], ["test -s out/x"])})
    done, report = run(repository, revision, "--repository-name", "https://git.demo/hello", "--out", tmp_path / "out")
    assert (done.returncode, report["result"]) == (0, "PASSED"), done.stderr
    assert re.search(r"live log at http://127\.0\.0\.1:\d+/[\w-]{20,}/log", done.stderr)
    assert "sha256:" + hashlib.sha256((tmp_path / "out/artifact.json").read_bytes()).hexdigest() == report["artifact"]
    assert "sha256:" + hashlib.sha256((tmp_path / "out/log").read_bytes()).hexdigest() == report["log"]
    again, second = run(repository, revision, "--repository-name", "https://git.demo/hello")
    assert (again.returncode, second["artifact"]) == (0, report["artifact"])
    # What another builder on this machine has lasts as long as its build.
    left, until = set(Path("/tmp").glob("pingee-build-*")) - before, time.monotonic() + 30
    while (left := {path for path in left if path.exists()}) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == set()


@pytest.fixture
def ordinary(repository):
    """How to start the builder as an ordinary user, and a directory of theirs that nobody else may enter."""
    if os.geteuid() != 0:
        yield {}, repository
        return
    prefix = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
    interpreter = "/usr/bin/python3"
    path = os.pathsep.join(filter(None, sys.path))
    trial = [*prefix, interpreter, "-c", "import cryptography.x509.verification, yaml, httpx2"]
    if subprocess.run(trial, env={"PYTHONPATH": path}, capture_output=True, check=False).returncode != 0:
        pytest.skip("no interpreter that an ordinary user can run has the dependencies")
    place = Path(tempfile.mkdtemp(prefix="pingee-test-"))
    yield {"prefix": prefix, "interpreter": interpreter, "env": {"PYTHONDONTWRITEBYTECODE": "1"}}, place / "hello"
    shutil.rmtree(place)


def hand_over(repository, place):
    if place != repository:
        shutil.copytree(repository, place, symlinks=True)
        subprocess.run(["chown", "-R", f"{ORDINARY}:{ORDINARY}", place.parent], check=True)


def test_an_ordinary_user_builds_too(repository, ordinary):
    how, place = ordinary
    revision = commit(repository, {".pipeline/config.yaml": pipeline(["mkdir out; id -u > out/x"], ["true"])})
    hand_over(repository, place)
    done, report = run(place, revision, **how)
    assert (done.returncode, report and report["ok"]) == (0, True), done.stderr


def test_without_user_namespaces_an_ordinary_user_builds_nothing(repository, ordinary):
    how, place = ordinary
    revision = commit(repository, {".pipeline/config.yaml": pipeline(["mkdir out; : > out/x"], ["true"])})
    hand_over(repository, place)
    # The limit is each user namespace's own, so a namespace of the test's can have none left.
    refusing = ["unshare", "-Ur", "/bin/sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
    done, report = run(place, revision, **{**how, "prefix": [*how.get("prefix", []), *refusing]})
    assert (done.returncode, report and report["code"]) == (1, "sandbox-unavailable"), done.stderr
    assert "user.max_user_namespaces is 0" in report["detail"]


def test_a_bubblewrap_that_cannot_start_is_no_reason_to_build_without(tmp_path, monkeypatch):
    space = Workspace(tmp_path, tmp_path, Bounds())
    monkeypatch.setattr("builder.namespaces.no_namespaces", lambda: BuildFault("sandbox-unavailable", "named"))
    with pytest.raises(BuildFault, match="sandbox-unavailable: named"):
        Sandbox(Path("/bin/false"), space, None, Limits()).check()


HOSTILE = r"""
set +e
[ "$(id -u)" = 1000 ] || echo BAD uid
known='PATH|HOME|TMPDIR|LANG|SOURCE_DATE_EPOCH|PYTHONUNBUFFERED|PYTHONDONTWRITEBYTECODE|PWD|OLDPWD|SHLVL|_'
env | cut -d= -f1 | grep -vxE "$known" && echo BAD environment
for path in /root /var /run /sys /work /opt /etc/shadow /etc/ssl; do [ -e "$path" ] && echo "BAD $path"; done
for path in /usr/x /x /dev/x /etc/x; do touch "$path" 2>/dev/null && echo "BAD $path"; done
[ -w /proc/sys/kernel/core_pattern ] && echo BAD root
[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 12 ] || echo BAD pids
unshare -Ur true 2>/dev/null && echo BAD unshare
python3 - <<'END'
import os, socket
def refused(what, call):
    try:
        call()
    except (OSError, MemoryError):
        return
    print("BAD", what)
refused("vsock", lambda: socket.socket(40, 1))
refused("packet", lambda: socket.socket(17, 3))
refused("network", lambda: socket.create_connection(("192.0.2.1", 80), 1))
refused("memory", lambda: bytearray(8 << 30))
refused("file", lambda: os.truncate("/src/big", 0) or open("/src/big", "wb").truncate(1 << 30))
refused("chroot", lambda: os.chroot("/tmp"))
print(sorted(os.listdir("/proc/self/fd")))
END
mkdir -p out; echo ok > out/x; true
"""


def test_a_hostile_build_finds_nothing(repository, tmp_path):
    revision = commit(repository, {".pipeline/config.yaml": pipeline([HOSTILE], ["true"])})
    done, _ = run(repository, revision, "--out", tmp_path / "out", env={"PINGEE_CANARY": "canary"})
    log = (tmp_path / "out/log").read_text()
    printed = log.partition("true\n")[2]
    assert done.returncode == 0, log
    assert "BAD" not in log.replace("echo BAD", "").replace('echo "BAD', "").replace('print("BAD"', ""), log
    assert "['0', '1', '2', '3']" in printed or "['0', '1', '2', '3']" in log
    assert "canary" not in log


@pytest.mark.parametrize(
    ("build", "test", "timeout", "status", "code", "words"),
    [
        ("exit 7", "true", "20s", 3, "build-failed", "'exit 7' failed with status 7"),
        ("setsid sleep 300 & sleep 300", "true", "1s", 3, "stage-timeout", "took longer than its 1 s"),
        ("for i in $(seq 400); do : > f$i; done", "true", "20s", 3, "workspace-full", "the workspace is full (300 files)"),
        ("mkdir out; while :; do head -c 1M /dev/zero >> out/x; done", "true", "20s", 3, "workspace-full", "the workspace is full (8 MiB)"),
        ("true", "true", "20s", 3, "output-missing", "the build made no 'out'"),
        ("ln -s /etc out", "true", "20s", 3, "output-refused", "is a link"),
        ("true", "true", "2h", 1, "config-invalid", "commit.timeout: must be at most 3600s"),
    ],
)
def test_every_end_is_one_sentence_with_its_code(repository, build, test, timeout, status, code, words):
    revision = commit(repository, {".pipeline/config.yaml": pipeline([build], [test], timeout)})
    started = time.monotonic()
    done, report = run(repository, revision, "--workspace-mib", 8, "--workspace-files", 300)
    assert (done.returncode, report["code"]) == (status, code), done.stderr
    assert words in report["detail"]
    assert done.stderr.strip().splitlines()[-1] == f"pingee-builder: {code}: {report['detail']}"
    assert time.monotonic() - started < 15


def test_failing_tests_give_an_artifact_with_a_failed_result(repository, tmp_path):
    revision = commit(repository, {".pipeline/config.yaml": pipeline(["mkdir out; echo hi > out/x"], ["true", "false", "true"])})
    done, report = run(repository, revision, "--out", tmp_path / "out")
    assert (done.returncode, report["result"], report["reason"]) == (3, "FAILED", "'false' failed with status 1")
    result = json.loads((tmp_path / "out/test-result.json").read_bytes())["predicate"]
    assert (result["passedTests"], result["failedTests"]) == (["true"], ["false"])


def test_an_unknown_commit_and_a_missing_document_are_said(repository):
    revision = commit(repository, {"a": "b"})
    done, report = run(repository, "0" * 40)
    assert (done.returncode, report["code"]) == (1, "commit-unknown")
    done, report = run(repository, revision)
    assert (done.returncode, report["code"]) == (1, "config-invalid")
    tree = git(repository, "rev-parse", "HEAD^{tree}")
    done, report = run(repository, tree)
    assert (done.returncode, report["code"]) == (1, "commit-unknown")


def test_a_linked_document_is_refused(repository):
    commit(repository, {"real": pipeline(["true"], ["true"])})
    (repository / ".pipeline").mkdir()
    (repository / ".pipeline/config.yaml").symlink_to("../real")
    done, report = run(repository, commit(repository, {"b": "c"}))
    assert (done.returncode, report["code"]) == (1, "config-invalid")
    assert "must be a plain file" in report["detail"]


def test_the_log_is_live(repository):
    script = "mkdir out; : > out/x; echo first; until [ -e /tmp/never ]; do sleep 0.1; done"
    revision = commit(repository, {".pipeline/config.yaml": pipeline([script], ["true"], "6s")})
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, "-P", "-m", "builder.cli", "run", str(repository), revision, "--no-submit"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        line = process.stderr.readline()
        url = line.split()[-1]
        with urllib.request.urlopen(url, timeout=30) as answer:
            lines = [answer.readline().decode(), answer.readline().decode()]
            assert process.poll() is None
            assert lines[1] == "first\n", lines
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url + "x", timeout=30)
        assert process.wait(60) == 3
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


# The intake.

UNUSED = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")


def authority(name):
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys((*UNUSED, "digital_signature"), False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def issue(ca, public, names, purpose, minutes=10):
    key, root = ca
    now = dt.datetime.now(dt.UTC)
    off = (*UNUSED, "key_cert_sign", "crl_sign")
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(seconds=30))
        .not_valid_after(now + dt.timedelta(minutes=minutes))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.KeyUsage(digital_signature=True, **dict.fromkeys(off, False)), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


class Intake:
    """Verifies like the gatekeeper and keeps blobs in memory; refuses the first request with 503."""

    def __init__(self, directory, revision):
        self.revision = revision
        self.ca = authority("Builder CA")
        self.root = BuilderRoot("builder-ca", (self.ca[1].public_bytes(serialization.Encoding.DER),))
        self.facts, self.blobs, self.tokens, self.busy = [], {}, [], 1
        self.certified_commit = revision
        web = authority("Web CA")
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = issue(web, key.public_key(), [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], ExtendedKeyUsageOID.SERVER_AUTH)
        self.ca_file = directory / "web-ca.pem"
        self.ca_file.write_bytes(web[1].public_bytes(serialization.Encoding.PEM))
        pem = directory / "leaf.pem"
        pem.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + leaf.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        intake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                intake.tokens.append(self.headers["Authorization"])
                status, document = intake.answer(self.command, self.path, body)
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if status == 503:
                    self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(data)

            do_PUT = do_POST

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, method, path, body):
        if path == "/v1/builder-certificates":
            request = x509.load_pem_x509_csr(json.loads(body)["csr"].encode())
            assert request.is_signature_valid
            urn = f"urn:pingee:run:hello:{self.certified_commit}:17"
            names = [x509.UniformResourceIdentifier(BUILDER_ID), x509.UniformResourceIdentifier(urn)]
            leaf = issue(self.ca, request.public_key(), names, ExtendedKeyUsageOID.CODE_SIGNING)
            return 201, {"chain": [leaf.public_bytes(serialization.Encoding.PEM).decode()]}
        if self.busy:
            self.busy -= 1
            return 503, {}
        if method == "PUT":
            digest = path.rpartition("/")[2]
            assert "sha256:" + hashlib.sha256(body).hexdigest() == digest
            self.blobs[digest] = body
            return 201, {"size": len(body)}
        checked = verify_submission(body, [self.root], received_at=moment(dt.datetime.now(dt.UTC)))
        if not hasattr(checked, "value"):
            return 422, {"code": checked.reason, "detail": checked.detail}
        fact = checked.value
        missing = self.missing(fact)
        if not missing:
            self.facts.append(fact)
        upload = [{"digest": d, "size": None, "mediaType": None, "upload": f"/v1/artifacts/{fact.artifact}/uploads/{d}"} for d in missing]
        return 202 if missing else 201, {"digest": fact.artifact, "missing": upload}

    def missing(self, fact):
        if isinstance(fact, ArtifactManifest):
            if fact.artifact not in self.blobs:
                return [fact.artifact]
            manifest = json.loads(self.blobs[fact.artifact])
            return [d["digest"] for d in (manifest["config"], *manifest["layers"]) if d["digest"] not in self.blobs]
        if isinstance(fact, Provenance) and fact.log not in self.blobs:
            return [fact.log]
        return []

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def token_file(directory, name, revision, **claims):
    said = {"project": "hello", "commit": revision, "run": "17", "actor": "alice", "ref": "refs/heads/main", "aud": name, **claims}
    parts = [{"alg": "ES256"}, said]
    text = ".".join([base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts] + ["c2ln"])
    path = directory / name
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def intake(repository, tmp_path):
    revision = commit(repository, {".pipeline/config.yaml": pipeline(["mkdir out; echo hi > out/x"], ["test -s out/x"])})
    served = Intake(tmp_path, revision)
    yield served
    served.close()


def submission(intake, tmp_path, **claims):
    instance = f"test={intake.url},{intake.ca_file},{token_file(tmp_path, 'intake-token', intake.revision, **claims)}"
    certificate = token_file(tmp_path, "certificate-token", intake.revision, **claims)
    relay = ["--certificate-from", "test", "--certificate-token-file", certificate]
    return ["--instance", instance, *relay, "--repository-name", "https://git.demo/hello"]


def test_everything_is_submitted_and_verifies(intake, repository, tmp_path):
    done, report = builder(repository, intake.revision, *submission(intake, tmp_path))
    assert done.returncode == 0, done.stderr
    assert report["submitted"] == ["test"]
    assert report["builder"] == BUILDER_ID
    manifest, provenance, result = intake.facts
    assert (type(manifest), type(provenance), type(result)) == (ArtifactManifest, Provenance, TestResult)
    assert {fact.artifact for fact in intake.facts} == {report["artifact"]}
    assert (manifest.run, manifest.plan, result.plan, provenance.log) == ("17", report["plan"], report["plan"], report["log"])
    assert (provenance.ref, provenance.tree) == ("refs/heads/main", git(repository, "rev-parse", "HEAD^{tree}"))
    assert (result.stage, result.verdict.value, result.passed) == ("commit", "PASSED", ("test -s out/x",))
    assert intake.blobs[report["log"]].endswith(b"$ test -s out/x\n")
    assert len(intake.blobs) == 4
    assert intake.tokens[0].endswith((tmp_path / "certificate-token").read_text())
    assert all(sent.endswith((tmp_path / "intake-token").read_text()) for sent in intake.tokens[1:])


def test_a_refusal_is_printed_with_its_code(intake, repository, tmp_path):
    intake.root = BuilderRoot("other", (authority("Other CA")[1].public_bytes(serialization.Encoding.DER),))
    done, report = builder(repository, intake.revision, *submission(intake, tmp_path))
    assert (done.returncode, report["code"]) == (1, "unknown-builder")
    assert "instance test refused (422)" in report["detail"]
    assert (tmp_path / "intake-token").read_text() not in done.stderr + done.stdout


def test_a_certificate_for_another_commit_is_not_used(intake, repository, tmp_path):
    intake.certified_commit = "a" * 40
    done, report = builder(repository, intake.revision, *submission(intake, tmp_path))
    assert (done.returncode, report["code"]) == (1, "certificate-refused")
    assert intake.facts == []


def test_another_ca_is_not_spoken_to(intake, repository, tmp_path):
    intake.ca_file.write_bytes(authority("Web CA")[1].public_bytes(serialization.Encoding.PEM))
    done, report = builder(repository, intake.revision, *submission(intake, tmp_path))
    assert (done.returncode, report["code"]) == (1, "instance-untrusted")
    assert intake.tokens == []


def test_a_token_for_another_commit_starts_nothing(intake, repository, tmp_path):
    done, report = builder(repository, intake.revision, *submission(intake, tmp_path, commit="b" * 40))
    assert (done.returncode, report["code"]) == (1, "usage")
    assert "live log" not in done.stderr


def test_an_acceptance_stage_reaches_its_target_and_nothing_else(repository):
    class Target(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"deployed " + self.path.encode())

        def log_message(self, *arguments):
            pass

    server, other = ThreadingHTTPServer(("127.0.0.1", 0), Target), ThreadingHTTPServer(("127.0.0.1", 0), Target)
    threads = [threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True) for one in (server, other)]
    for thread in threads:
        thread.start()
    get = "import os,urllib.request as u; assert u.urlopen(os.environ['PINGEE_TARGET_URL'] + '/x').read() == b'deployed /app/x'"
    elsewhere = f"import socket; s = socket.socket(); assert s.connect_ex(('127.0.0.1', {other.server_address[1]})) != 0"
    tests = json.dumps([f"python3 -c {json.dumps(code)}" for code in (get, elsewhere)])
    document = pipeline(["true"], ["true"]) + f"acceptance:\n  test: {tests}\n"
    digest = "sha256:" + "a" * 64
    try:
        revision = commit(repository, {".pipeline/config.yaml": document})
        target = f"http://127.0.0.1:{server.server_address[1]}/app/"
        arguments = ["--stage", "acceptance", "--acceptance", target, "--artifact", digest, "--receipt", digest, "--page", "https://test.demo/1"]
        done, report = run(repository, revision, *arguments)
    finally:
        for one in (server, other):
            one.shutdown()
            one.server_close()
    assert (done.returncode, report["result"], report["stage"], report["artifact"]) == (0, "PASSED", "acceptance", digest), (done.stderr, report)


def test_the_example_builds_here(tmp_path):
    shutil.copytree(ROOT / "examples/hello", tmp_path / "hello")
    revision = commit(tmp_path / "hello", {})
    done, report = run(tmp_path / "hello", revision)
    assert (done.returncode, report["component"], report["result"]) == (0, "hello", "PASSED"), done.stderr
