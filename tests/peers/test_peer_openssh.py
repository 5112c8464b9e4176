"""OpenSSH of Debian on either side: its server in front of our doorkeeper, and its client against our host."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import asyncssh
import pytest
import trio

from gatekeeper.adapters.ssh import SshTarget
from gatekeeper.crossing import open_loop_thread
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.ports.target import Applied, LastOutcome, Refused, TargetUnavailable
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import frame_of, make_artifact, make_layer, parts_of
from tests.fakes.openssh import running_sshd, words
from tests.fakes.peers import peer
from tests.fakes.ssh_host import USER, running_host

pytestmark = [pytest.mark.peer, pytest.mark.anyio]
ANY = digest_of(b"any")


@pytest.fixture
def sshd(tmp_path):
    with installed(tmp_path) as door, running_sshd(door) as host:
        yield host


@pytest.fixture
async def target():
    async with open_loop_thread("ssh") as loop:
        yield SshTarget(loop, status_s=30)


async def test_sshd_lets_a_real_frame_through_to_a_healthy_deploy(sshd, target):
    artifact = make_artifact("over OpenSSH")
    receipt, items = sshd.door.gatekeeper.deploy(artifact, old=0, settings=b"GREETING=hello\n")
    answer = await target.apply(sshd.address, sshd.credential(receipt), receipt, parts_of(items), progress=lambda _: None)
    assert isinstance(answer, Applied), (answer, words(sshd))
    assert answer.artifact == artifact.digest
    assert await trio.to_thread.run_sync(sshd.door.page) == "hello over OpenSSH"
    component = (await target.status(sshd.address, sshd.credential(receipt), receipt)).component("hello")
    assert (component.outcome, component.running) == (LastOutcome.HEALTHY, artifact.digest)
    again = {**items, PartName.CONSISTENCY: sshd.door.gatekeeper.log.growth(1)}
    replayed = await target.apply(sshd.address, sshd.credential(receipt), receipt, parts_of(again), progress=lambda _: None)
    assert isinstance(replayed, Refused)
    assert replayed.code == "receipt-replayed"


async def test_sshd_refuses_strangers_certificates(sshd, target):
    assert (await target.status(sshd.address, sshd.credential(ANY), ANY)).target == "host-1"
    for credential, reason in (
        (sshd.credential(ANY, ca=asyncssh.generate_private_key("ssh-ed25519")), "Failed publickey"),
        (sshd.credential(ANY, valid_before="-1s"), "Certificate invalid: expired"),
        (sshd.credential(ANY, principal="root"), "Certificate invalid: name is not a listed principal"),
        (sshd.credential(ANY, source_address=["10.9.9.9"]), "not from a permitted source address"),
    ):
        said = len(words(sshd))
        with pytest.raises(TargetUnavailable):
            await target.status(sshd.address, credential, ANY)
        assert reason in words(sshd)[said:]
    with pytest.raises(TargetUnavailable):
        await target.status(replace(sshd.address, user="root"), sshd.credential(ANY, principal="root"), ANY)


async def test_the_login_shell_runs_no_other_command_than_the_certificates_one(sshd, target):
    """sshd lets these in: it is the doorkeeper that refuses. Nothing of them runs, and no state is written."""
    touched = sshd.door.directory / "touched"
    honest = f"pingee-doorkeeper serve {digest_hex(ANY)}"
    for command in (f"touch {touched}", "", honest[:-1], f"{honest}; touch {touched}", f"{honest}\ntouch {touched}", "pingee-doorkeeper status x"):
        with pytest.raises(TargetUnavailable, match="only 'pingee-doorkeeper serve <64 hex>' and 'pingee-doorkeeper status' run here"):
            await target.status(sshd.address, sshd.credential(ANY, command=command), ANY)
    receipt, items = sshd.door.gatekeeper.deploy(make_artifact(), old=0)
    answer = await target.apply(sshd.address, sshd.credential(ANY), receipt, parts_of(items), progress=lambda _: None)
    assert isinstance(answer, Refused)
    assert answer.code == "receipt-missing"
    assert not touched.exists()


async def test_an_early_refusal_of_a_big_frame_arrives_whole_through_sshd(sshd, target):
    big = make_artifact(layer=make_layer({"a": os.urandom(20_000_000)}))
    _, items = sshd.door.gatekeeper.deploy(big, old=0)
    answer = await target.apply(sshd.address, sshd.credential(ANY), ANY, parts_of(items), progress=lambda _: None)
    assert isinstance(answer, Refused)
    assert answer.code == "receipt-missing"


@pytest.fixture
def host(tmp_path):
    with installed(tmp_path) as door, running_host(door) as host:
        yield host


async def test_the_systems_ssh_client_deploys_through_our_host(host, tmp_path):
    ssh = peer("openssh-client", "ssh")
    artifact = make_artifact("by ssh")
    receipt, items = host.door.gatekeeper.deploy(artifact, old=0)
    applied = await _ssh(ssh, host, host.credential(receipt), tmp_path, "apply", frame_of(parts_of(items)))
    assert applied.returncode == 0, applied.stderr
    assert json.loads(applied.stdout.splitlines()[-1])["applied"] == artifact.digest
    status = await _ssh(ssh, host, host.credential(receipt), tmp_path, "status", b"")
    assert status.returncode == 0
    assert json.loads(status.stdout)["components"][0]["outcome"] == "healthy"
    refused = await _ssh(ssh, host, host.credential(ANY), tmp_path, "apply", frame_of(parts_of(items)))
    assert refused.returncode == 3
    assert json.loads(refused.stdout.splitlines()[-1])["refused"] == "receipt-missing"


async def test_the_systems_ssh_client_gets_no_further_with_another_certificate_or_host_key(host, tmp_path):
    ssh = peer("openssh-client", "ssh")
    stranger = host.credential(ANY, ca=asyncssh.generate_private_key("ssh-ed25519"))
    done = await _ssh(ssh, host, stranger, tmp_path, "status", b"")
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"Permission denied (publickey)" in done.stderr
    done = await _ssh(ssh, host, host.credential(ANY, command="sh"), tmp_path, "status", b"")
    assert done.returncode == 1
    assert b"only a doorkeeper" in done.stdout
    done = await _ssh(ssh, host, host.credential(ANY), tmp_path, "sh", b"", "-tt")
    assert (done.returncode, done.stderr) == (255, b"PTY allocation request failed on channel 0\r\n")
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    done = await _ssh(ssh, replace_key(host, other), host.credential(ANY), tmp_path, "status", b"")
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


def replace_key(host, key):
    return type(host)(host.door, host.ca, host.port, key)


async def _ssh(ssh, host, credential, directory, word, stdin, *arguments):
    (directory / "id").unlink(missing_ok=True)
    (directory / "id").write_bytes(credential.private_key_pem)
    (directory / "id").chmod(0o600)
    (directory / "id-cert.pub").write_text(credential.certificate)
    (directory / "kh").write_text(f"host-1 {host.host_key}\n")
    options = {
        "CertificateFile": directory / "id-cert.pub", "UserKnownHostsFile": directory / "kh", "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": "host-1", "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes", "IdentityAgent": "none", "BatchMode": "yes",
    }  # fmt: skip
    command = [str(ssh), "-F", "/dev/null", "-i", str(directory / "id"), "-p", str(host.port), *(f"-o{k}={v}" for k, v in options.items())]
    with trio.fail_after(60):
        return await trio.run_process(
            [*command, *arguments, f"{USER}@127.0.0.1", word], stdin=stdin, capture_stdout=True, capture_stderr=True, check=False
        )
