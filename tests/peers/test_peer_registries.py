"""Real registries beside the contract suite (`tests/contract/test_artifacts.py -m peer`): memory, and what another maker's tool sees there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trio

from clients.demo.certificate import make_certificate
from gatekeeper.adapters.registry import open_registry
from gatekeeper.deploy.stored import read_stored
from gatekeeper.model import uris
from gatekeeper.model.digest import Digest, digest_hex, digest_of
from tests.fakes.frames import make_artifact
from tests.fakes.oci_registry import address_of, running_docker_registry, running_oci_registry
from tests.fakes.peers import peer

pytestmark = [pytest.mark.peer, pytest.mark.anyio]

MEGA = 1024 * 1024
SIZE = 100
REGISTRIES = {"docker-registry": running_docker_registry, "oci-registry": running_oci_registry}


@pytest.fixture(params=REGISTRIES)
def registry(request, tmp_path):
    make_certificate(tmp_path / "tls", "a CA of the test")
    with REGISTRIES[request.param](tmp_path / "tls") as running:
        yield running


def megabyte(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest() * (MEGA // 32)


def memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


async def test_a_hundred_megabytes_go_up_and_come_back_in_flat_memory(registry, tmp_path):
    whole = hashlib.sha256()
    for number in range(SIZE):
        whole.update(megabyte(number))
    digest = Digest(f"sha256:{whole.hexdigest()}")

    async def chunks():
        for number in range(SIZE):
            yield megabyte(number)

    store = await open_registry(address_of(registry, tmp_path / "tls"), tmp_path / "files", max_blob=SIZE * MEGA)
    assert await store.size(digest) is None
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    before = memory("VmRSS")
    assert await store.put(digest, chunks(), max_bytes=SIZE * MEGA) == SIZE * MEGA
    assert (await store.local(digest)).stat().st_size == SIZE * MEGA
    assert memory("VmHWM") - before < 32 * MEGA


async def stored(store, artifact):
    for blob in (artifact.layer, artifact.config, artifact.manifest):

        async def whole(blob=blob):
            yield blob

        await store.put(digest_of(blob), whole(), max_bytes=10 * MEGA)
    await store.list_manifest(artifact.digest, media_type=uris.OCI_MANIFEST, artifact_type=uris.ARTIFACT_TYPE)


@pytest.fixture
def skopeo(registry, tmp_path):
    """Runs skopeo's copy, which must succeed, with the registry's certificate and nothing of this machine's."""
    (tmp_path / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')  # the digests are what is tested
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "ca.crt").write_bytes((tmp_path / "tls" / "ca.pem").read_bytes())
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    trusted = [f"--{side}-cert-dir={tmp_path}/certificates" for side in ("src", "dest")]

    async def copy(source, target):
        command = [str(peer("skopeo", "skopeo")), "--policy", str(tmp_path / "policy.json"), "copy", "--preserve-digests", *trusted, source, target]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr

    return copy


async def test_skopeo_finds_the_artifact_by_its_digest_with_every_byte(registry, tmp_path, skopeo):
    artifact = make_artifact()
    store = await open_registry(address_of(registry, tmp_path / "tls"), tmp_path / "files", max_blob=10 * MEGA)
    await stored(store, artifact)
    await skopeo(f"docker://{registry.url.removeprefix('https://')}/team/app@{artifact.digest}", f"oci:{tmp_path}/copy:x")
    copied = sorted(path.name for path in (tmp_path / "copy" / "blobs" / "sha256").iterdir())
    assert copied == sorted(digest_of(blob).removeprefix("sha256:") for blob in (artifact.layer, artifact.config, artifact.manifest))


async def test_a_tag_that_is_pushed_again_changes_nothing_of_what_is_deployed(registry, tmp_path, skopeo):
    good, evil = make_artifact("1"), make_artifact("evil")
    store = await open_registry(address_of(registry, tmp_path / "tls"), tmp_path / "files", max_blob=10 * MEGA)
    await stored(store, good)
    await stored(store, evil)
    place = f"docker://{registry.url.removeprefix('https://')}/team/app"
    await skopeo(f"{place}@{good.digest}", f"{place}:production")
    before = await read_stored(store, good.digest)
    await skopeo(f"{place}@{evil.digest}", f"{place}:production")
    await skopeo(f"{place}:production", f"oci:{tmp_path}/copy:x")
    assert (tmp_path / "copy" / "blobs" / "sha256" / digest_hex(evil.digest)).is_file(), "the tag is another artifact's now"
    assert await read_stored(store, good.digest) == before
    assert await store.read(good.digest, max_bytes=MEGA) == good.manifest
    assert (await store.local(digest_of(good.layer))).read_bytes() == good.layer
