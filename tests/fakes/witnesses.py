"""Witnesses in memory, honest unless told otherwise, and real ones in processes of their own. Both pass the same contract suite."""

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.ports.errors import Denied, Rejected, Unavailable
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize
from gatekeeper.sequencer import WitnessPlan
from gatekeeper.tlog.checkpoint import open_checkpoint
from gatekeeper.tlog.consistency import parse_growth, verify_growth
from gatekeeper.tlog.cosignature import cosigned_message, encode_cosignature
from gatekeeper.tlog.errors import ProofMismatch, TlogError
from gatekeeper.tlog.logpolicy import Group, LogPolicy, Witness
from gatekeeper.tlog.note import NoteSignature, cosigner_vkey, encode_vkey, parse_note, verify_note

ROOT = Path(__file__).resolve().parents[2]


class FakeWitness:
    """One witness. `answer` may be replaced: an async function of the body that lies, drips or raises."""

    def __init__(self, name, log_keys=()):
        self.name, self.log_keys = name, list(log_keys)
        self.key = Ed25519PrivateKey.generate()
        self.vkey = cosigner_vkey(f"{name}.example", self.key.public_key().public_bytes_raw())
        self.url = f"https://{name}.example"
        self.known = {}
        self.asked = []
        self.answer = self.honest

    def sign(self, text, timestamp=1_800_000_000, key=None) -> NoteSignature:
        return encode_cosignature(self.vkey, timestamp, (key or self.key).sign(cosigned_message(text, timestamp)))

    async def honest(self, body):
        try:
            growth = parse_growth(body)
        except TlogError:
            raise Rejected("witness-rejected") from None
        note = parse_note(growth.checkpoint)
        origin = note.text.split(b"\n")[0].decode()
        keys = [key for key in self.log_keys if key.name == origin]
        try:
            opened = open_checkpoint(growth.checkpoint, verify_note(note, keys)[0])
        except TlogError:
            raise Denied("witness-unknown-log") from None
        known = self.known.get(origin)
        if growth.old > opened.size:
            raise Rejected("witness-rejected")
        if growth.old != (known.size if known else 0):
            return OtherSize(known.size if known else 0)
        try:
            verify_growth(known, growth, opened)
        except ProofMismatch:
            return OtherRoot()
        self.known[origin] = opened.checkpoint
        return Cosignatures((self.sign(note.text),))


class FakeWitnesses:
    """`ports.witness.WitnessLink` to these witnesses; there is no other."""

    def __init__(self, *witnesses):
        self.by_url = {witness.url: witness for witness in witnesses}

    async def add_checkpoint(self, url, body):
        witness = self.by_url[url]
        witness.asked.append(body)
        await trio.lowlevel.checkpoint()
        return await witness.answer(body)


async def away(_body):
    raise Unavailable("witness-unreachable")


def policy_of(log_key, *witnesses, quorum=None):
    """All of the witnesses, or `quorum` of them; 0 is a quorum of none."""
    named = tuple(Witness(w.name, w.vkey, w.url) for w in witnesses)
    if quorum == 0:
        return LogPolicy(log_key, witnesses=named)
    group = Group("q", len(named) if quorum is None else quorum, tuple(w.name for w in named))
    return LogPolicy(log_key, witnesses=named, groups=(group,), quorum="q")


def plan_of(log_key, *witnesses, quorum=None):
    return WitnessPlan(policy_of(log_key, *witnesses, quorum=quorum), FakeWitnesses(*witnesses))


class RunningWitness:
    """A real `pingee-witness` with a directory of its own."""

    def __init__(self, directory, certificates, *log_keys):
        self.directory = directory
        self.tls = ["--certificate", str(certificates / "tls.pem"), "--key", str(certificates / "tls.key")]
        logs = [word for key in log_keys for word in ("--log", encode_vkey(key))]
        self.vkey = self.command("init", "--name", f"{directory.name}.example/w", *logs).strip()
        self.name, self.url, self._process, self._port = directory.name, "", None, 0

    def command(self, word, *more, code=0):
        done = subprocess.run([*PROGRAM, word, str(self.directory), *more], capture_output=True, cwd=ROOT, timeout=60, check=False)
        assert done.returncode == code, done.stderr.decode()
        return done.stdout.decode()

    def add_log(self, key):
        self.command("add-log", encode_vkey(key))

    def start(self):
        """Returns the seconds until it took connections. Started again, it listens where it did before."""
        arguments = [*PROGRAM, "serve", str(self.directory), "--listen", f"127.0.0.1:{self._port}", *self.tls]
        began = time.monotonic()
        self.log = (self.directory / "log").open("ab")
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self.log, cwd=ROOT)
        line = self._process.stdout.readline().decode()
        assert line.startswith("serving https://"), (self.directory / "log").read_text()
        self.url = line.split()[1]
        self._port = int(self.url.rpartition(":")[2])
        return time.monotonic() - began

    def kill(self, *, gently=False):
        (self._process.terminate if gently else self._process.kill)()
        code = self._process.wait(timeout=60)
        self._process.stdout.close()
        self.log.close()
        self._process = None
        return code


PROGRAM = [sys.executable, "-m", "clients.witness.cli"]


@contextmanager
def running_witness(directory, certificates, *log_keys):
    directory.mkdir(parents=True, exist_ok=True)
    witness = RunningWitness(directory, certificates, *log_keys)
    try:
        witness.start()
        yield witness
    finally:
        if witness._process is not None:
            witness.kill()
