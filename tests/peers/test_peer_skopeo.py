"""Debian's skopeo reads the image layout that our artifact store writes, and moves an artifact without changing a byte of its name."""

from __future__ import annotations

import json

import pytest
import trio

from gatekeeper.adapters.layout import open_layout
from gatekeeper.model import uris
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.ports.artifacts import BlobDiffers
from tests.fakes.frames import make_artifact
from tests.fakes.peers import peer

pytestmark = [pytest.mark.peer, pytest.mark.anyio]


async def chunks(data):
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


async def stored(directory, artifact):
    """The artifact in a fresh store, as the intake puts it there."""
    store = await open_layout(directory)
    for blob in (artifact.layer, artifact.config, artifact.manifest):
        await store.put(digest_of(blob), chunks(blob), max_bytes=10_000_000)
    await store.list_manifest(artifact.digest, media_type=uris.OCI_MANIFEST, artifact_type=uris.ARTIFACT_TYPE)
    return store


async def skopeo(directory, *arguments):
    program = peer("skopeo", "skopeo")
    (directory / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')  # the layout's digests are what is tested
    environment = {"HOME": str(directory), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(directory), "TMPDIR": str(directory)}
    command = [str(program), "--policy", str(directory / "policy.json"), *map(str, arguments)]
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, env=environment)


async def test_skopeo_reads_the_exact_manifest(tmp_path):
    artifact = make_artifact()
    await stored(tmp_path / "store", artifact)
    done = await skopeo(tmp_path, "inspect", "--raw", f"oci:{tmp_path}/store")
    assert done.returncode == 0, done.stderr
    assert digest_of(done.stdout) == artifact.digest
    config = await skopeo(tmp_path, "inspect", "--raw", "--config", f"oci:{tmp_path}/store")
    assert config.returncode == 0, config.stderr
    assert config.stdout == artifact.config


async def test_skopeo_copies_an_artifact_and_every_digest_stays(tmp_path):
    artifact = make_artifact()
    await stored(tmp_path / "store", artifact)
    done = await skopeo(tmp_path, "copy", "--preserve-digests", f"oci:{tmp_path}/store", f"oci:{tmp_path}/copy:hello")
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "copy" / "index.json").read_bytes())
    assert [item["digest"] for item in index["manifests"]] == [artifact.digest]
    copy = await open_layout(tmp_path / "copy")  # our reader on foreign bytes
    for blob in (artifact.manifest, artifact.config, artifact.layer):
        assert await copy.read(digest_of(blob), max_bytes=10_000_000) == blob


async def test_skopeo_notices_what_we_notice(tmp_path):
    """The same altered layer: our store refuses to read it, skopeo to copy it."""
    artifact = make_artifact()
    store = await stored(tmp_path / "store", artifact)
    layer = tmp_path / "store" / "blobs" / "sha256" / digest_hex(digest_of(artifact.layer))
    layer.chmod(0o600)
    layer.write_bytes(artifact.layer[:-1] + b"x")
    done = await skopeo(tmp_path, "copy", f"oci:{tmp_path}/store", f"oci:{tmp_path}/copy:hello")
    assert done.returncode != 0
    assert digest_of(artifact.layer).encode() in done.stderr, done.stderr
    with pytest.raises(BlobDiffers, match="altered"):
        await store.read(digest_of(artifact.layer), max_bytes=10_000_000)
