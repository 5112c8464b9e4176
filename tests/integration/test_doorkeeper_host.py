"""The SSH host: who gets in, what runs, and that a refusal arrives whole."""

import asyncio
import os
from dataclasses import replace

import asyncssh
import pytest
import trio

from gatekeeper.adapters.ssh import SshTarget
from gatekeeper.crossing import open_loop_thread
from gatekeeper.model.digest import digest_of
from gatekeeper.model.frame import PartName
from gatekeeper.ports.target import Applied, ApplyFailed, LastOutcome, Refused, TargetUnavailable
from tests.fakes.doorkeepers import installed
from tests.fakes.frames import frame_of, make_artifact, make_layer, parts_of
from tests.fakes.ssh_host import USER, running_host

pytestmark = pytest.mark.anyio
ANY = digest_of(b"any")


@pytest.fixture
def host(tmp_path):
    with installed(tmp_path) as door, running_host(door) as host:
        yield host


@pytest.fixture
async def target():
    async with open_loop_thread("ssh") as loop:
        yield SshTarget(loop, status_s=30)


async def test_only_the_cas_certificates_for_this_account_with_exactly_this_command(host, target):
    assert (await target.status(host.address, host.credential(ANY), ANY)).target == "host-1"
    other_ca = asyncssh.generate_private_key("ssh-ed25519")
    refused = [
        host.credential(ANY, ca=other_ca),
        host.credential(ANY, principal="root"),
        host.credential(ANY, valid_before="-1s"),
        host.credential(ANY, command="sh"),
        host.credential(ANY, command=""),
        host.credential(ANY, command="pingee-doorkeeper serve " + "0" * 63),
        host.credential(ANY, command="pingee-doorkeeper serve " + "0" * 64 + "\nid"),
        host.credential(ANY, source_address=["10.9.9.9"]),
    ]
    for credential in refused:
        with pytest.raises(TargetUnavailable):
            await target.status(host.address, credential, ANY)
    with pytest.raises(TargetUnavailable):
        await target.status(replace(host.address, user="root"), host.credential(ANY, principal="root"), ANY)


async def test_a_certificate_that_only_reads_is_told_the_status_and_applies_nothing(host, target):
    receipt, items = host.door.gatekeeper.deploy(make_artifact(), old=0)
    reading = host.credential(ANY, command="pingee-doorkeeper status")
    assert (await target.status(host.address, reading, None)).components == ()
    before = host.door.state()
    answer = await target.apply(host.address, reading, receipt, parts_of(items), progress=lambda _: None)
    assert answer == ApplyFailed("only a doorkeeper's certificate, and the words apply and status, are served", spent=False)
    assert host.door.state() == before
    for command in ("pingee-doorkeeper status x", "pingee-doorkeeper statusx", "status"):
        with pytest.raises(TargetUnavailable):
            await target.status(host.address, host.credential(ANY, command=command), None)


async def test_a_host_with_another_key_or_no_pinned_key_is_not_believed(host, target):
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    with pytest.raises(TargetUnavailable):
        await target.status(replace(host.address, host_keys=(other,)), host.credential(ANY), ANY)
    with pytest.raises(TargetUnavailable, match="neither a pinned host key"):
        await target.status(replace(host.address, host_keys=()), host.credential(ANY), ANY)


async def test_the_receipt_is_the_certificates_not_the_callers(host, target):
    receipt, items = host.door.gatekeeper.deploy(make_artifact(), old=0)
    answer = await target.apply(host.address, host.credential(ANY), receipt, parts_of(items), progress=lambda _: None)
    assert isinstance(answer, Refused)
    assert answer.code == "receipt-missing"
    assert "not the one that the credential names" in answer.detail


async def test_an_early_refusal_of_a_big_frame_arrives_whole(host, target):
    big = make_artifact(layer=make_layer({"a": os.urandom(20_000_000)}))
    _, items = host.door.gatekeeper.deploy(big, old=0)
    for _ in range(3):
        answer = await target.apply(host.address, host.credential(ANY), ANY, parts_of(items), progress=lambda _: None)
        assert isinstance(answer, Refused)
        assert answer.code == "receipt-missing"


async def test_system_ssh_client_reads_the_refusal_and_the_exit_status(host, tmp_path):
    _, items = host.door.gatekeeper.deploy(make_artifact(layer=make_layer({"a": os.urandom(5_000_000)})), old=0)
    credential = host.credential(ANY)
    (tmp_path / "id").write_bytes(credential.private_key_pem)
    (tmp_path / "id").chmod(0o600)
    (tmp_path / "id-cert.pub").write_text(credential.certificate)
    (tmp_path / "kh").write_text(f"host-1 {host.host_key}\n")
    options = {
        "CertificateFile": tmp_path / "id-cert.pub", "UserKnownHostsFile": tmp_path / "kh", "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": "host-1",
        "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes", "BatchMode": "yes",
    }  # fmt: skip
    command = ["ssh", "-F", "/dev/null", "-i", str(tmp_path / "id"), "-p", str(host.port), *(f"-o{k}={v}" for k, v in options.items())]
    for word, code in (("apply", 3), ("status", 0), ("sh", 1)):
        done = await trio.run_process(
            [*command, f"{USER}@127.0.0.1", word], stdin=frame_of(parts_of(items)), capture_stdout=True, capture_stderr=True, check=False
        )
        assert done.returncode == code, (word, done.stderr)


async def test_a_client_that_goes_away_after_sending_leaves_an_apply_that_status_tells_of(host, target):
    slow = "import time; time.sleep(1.5); import runpy, sys; sys.argv = ['g', sys.argv[1]]; runpy.run_path('greeter.py')"
    artifact = make_artifact(argv=["python3", "-c", slow, "{port}"], grace_s=20)
    receipt, items = host.door.gatekeeper.deploy(artifact, old=0)
    credential, started = host.credential(receipt), trio.Event()

    def progress(value):
        if value.phase == "health":
            started.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def send():
                await target.apply(host.address, credential, receipt, parts_of(items), progress=progress)

            nursery.start_soon(send)
            await started.wait()
            nursery.cancel_scope.cancel()
        outcome = LastOutcome.IN_PROGRESS
        while outcome is LastOutcome.IN_PROGRESS:
            outcome = (await target.status(host.address, credential, receipt)).component("hello").outcome
    assert outcome is LastOutcome.HEALTHY


async def test_a_host_that_starts_again_starts_its_workloads_again(tmp_path, target):
    with installed(tmp_path) as door:
        artifact = make_artifact()
        receipt, items = door.gatekeeper.deploy(artifact, old=0)
        with running_host(door) as host:
            answer = await target.apply(host.address, host.credential(receipt), receipt, parts_of(items), progress=lambda _: None)
            assert isinstance(answer, Applied)
        with running_host(door) as host:
            status = await target.status(host.address, host.credential(ANY), ANY)
            assert status.component("hello").running == artifact.digest
            with trio.fail_after(30):
                while True:
                    try:
                        assert await trio.to_thread.run_sync(door.page) == "none 1"
                        break
                    except OSError:
                        await trio.sleep(0.05)


async def test_no_shell_no_forwarding_no_files(host, target):
    async def probe(credential):
        key = asyncssh.import_private_key(credential.private_key_pem)
        certificate = asyncssh.import_certificate(credential.certificate)
        found = []
        async with asyncssh.connect(
            "127.0.0.1", host.port, username=USER, client_keys=[(key, certificate)],
            known_hosts=([asyncssh.import_public_key(host.host_key)], [], []),
            config=None, agent_path=None,
        ) as connection:  # fmt: skip
            for command in ("sh", None, "pingee-doorkeeper install"):
                done = await connection.run(command, stdin=asyncssh.DEVNULL)
                found.append(done.exit_status)
            for forward in (
                lambda: connection.open_connection("127.0.0.1", host.port),
                lambda: connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", host.port),
                lambda: connection.start_sftp_client(),
            ):
                try:
                    await asyncio.wait_for(forward(), 5)
                    found.append("open")
                except (asyncssh.Error, asyncssh.ChannelListenError, OSError, TimeoutError):
                    found.append("refused")
        return found

    found = await target._loop.run(probe, host.credential(ANY))
    assert found == [1, 1, 1, "refused", "refused", "refused"]


async def test_a_changed_settings_part_never_shows_in_errors(host, target):
    receipt, items = host.door.gatekeeper.deploy(make_artifact(), old=0, settings=b"LD_PRELOAD=hush-hush\n", configuration=b"")
    answer = await target.apply(host.address, host.credential(receipt), receipt, parts_of(items), progress=lambda _: None)
    assert "LD_PRELOAD" in answer.detail
    assert "hush" not in repr(answer)
    assert not answer.spent
    assert PartName.SETTINGS in items
