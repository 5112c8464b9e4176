"""`ports.artifacts.ArtifactStore`: one suite over the layout on disk, the store in memory, and registries: one of ours with and without the
referrers API, and as peers Debian's docker-registry and go-containerregistry's. Then what only a disk can do."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from clients.demo.certificate import make_certificate
from gatekeeper.adapters import incoming
from gatekeeper.adapters.layout import open_layout
from gatekeeper.adapters.registry import RegistryStore, open_registry
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, MalformedDigest, digest_hex, digest_of
from gatekeeper.model.uris import OCI_INDEX, OCI_MANIFEST
from gatekeeper.ports.artifacts import BlobDiffers, BlobMissing, BlobTooLarge
from gatekeeper.ports.errors import Unavailable
from tests.fakes.artifacts import MemoryArtifacts
from tests.fakes.oci_registry import address_of, running_docker_registry, running_oci_registry, running_registry

pytestmark = pytest.mark.anyio

HELLO = b"hello, world\n"
MEGA = 1024 * 1024


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


REGISTRIES = {
    "registry": running_registry,
    "registry-without-referrers": partial(running_registry, referrers_api=False),
    "docker-registry": running_docker_registry,
    "oci-registry": running_oci_registry,
    "oci-registry-without-referrers": partial(running_oci_registry, referrers=False),
}
PEERS = ["docker-registry", "oci-registry", "oci-registry-without-referrers"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    make_certificate(directory, "a CA of the test")
    return directory


@pytest.fixture(params=["layout", "memory", "registry", "registry-without-referrers", *[pytest.param(name, marks=pytest.mark.peer) for name in PEERS]])
async def store(request, tmp_path, certificates):
    match request.param:
        case "memory":
            yield MemoryArtifacts(tmp_path)
        case "layout":
            yield await open_layout(tmp_path / "artifacts")
        case name:
            with REGISTRIES[name](certificates) as registry:
                opened = await open_registry(address_of(registry, certificates), tmp_path / "files", max_blob=10 * MEGA)
                opened.alter = registry.alter
                yield opened


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def alter(store, digest: Digest, data: bytes) -> None:
    if isinstance(store, MemoryArtifacts):
        store.blobs[digest] = data
    elif isinstance(store, RegistryStore):
        store.alter(digest, data)
    else:
        path = store._directory / "blobs" / "sha256" / digest_hex(digest)
        path.chmod(0o600)
        path.write_bytes(data)


async def kept(store, data: bytes) -> Digest:
    digest = digest_of(data)
    await store.put(digest, chunks(data), max_bytes=MEGA)
    return digest


async def manifest(store, number: int, subject: Digest | None = None) -> Digest:
    """A small manifest that is put with all it names; real registries look whether that is there."""
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": await kept(store, b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], "annotations": {"number": str(number)}}
    if subject is not None:
        document["subject"] = {"mediaType": OCI_MANIFEST, "digest": subject, "size": await store.size(subject)}
    return await kept(store, encode_canonical(document))


async def test_what_was_put_is_read_and_found_as_a_file(store):
    digest = digest_of(HELLO)
    assert await store.put(digest, chunks(HELLO[:5], HELLO[5:]), max_bytes=len(HELLO)) == len(HELLO)
    assert await store.size(digest) == len(HELLO)
    assert await store.read(digest, max_bytes=len(HELLO)) == HELLO
    assert (await store.local(digest)).read_bytes() == HELLO


async def test_putting_twice_changes_nothing(store):
    digest = await kept(store, HELLO)
    assert await kept(store, HELLO) == digest
    assert await store.read(digest, max_bytes=MEGA) == HELLO


async def test_the_empty_blob_is_a_blob(store):
    digest = await kept(store, b"")
    assert await store.size(digest) == 0
    assert await store.read(digest, max_bytes=0) == b""


@pytest.mark.parametrize("lie", [HELLO[:-1], HELLO + b"x", b"other", b""])
async def test_bytes_of_another_digest_are_refused_and_not_kept(store, lie):
    digest = digest_of(HELLO)
    with pytest.raises(BlobDiffers, match="digest-mismatch"):
        await store.put(digest, chunks(lie), max_bytes=MEGA)
    assert await store.size(digest) is None
    assert await store.size(digest_of(lie)) is None


async def test_more_bytes_than_allowed_are_refused_before_the_stream_ends(store):
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 1000:  # an end all the same, or a store that takes everything would never be told from a slow one
            taken += 1
            yield b"x" * 1000

    with pytest.raises(BlobTooLarge):
        await store.put(digest_of(HELLO), endless(), max_bytes=10_000)
    assert taken == 11
    assert await store.size(digest_of(HELLO)) is None


async def test_a_source_that_breaks_leaves_nothing(store):
    async def broken() -> AsyncIterator[bytes]:
        yield HELLO[:4]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put(digest_of(HELLO), broken(), max_bytes=MEGA)
    assert await store.size(digest_of(HELLO)) is None


async def test_what_is_not_there_is_missing(store):
    digest = digest_of(b"never stored")
    assert await store.size(digest) is None
    with pytest.raises(BlobMissing):
        await store.read(digest, max_bytes=MEGA)
    with pytest.raises(BlobMissing):
        await store.local(digest)
    with pytest.raises(BlobMissing):
        await store.list_manifest(digest, media_type=OCI_MANIFEST, artifact_type=None)


async def test_reading_more_than_allowed_is_refused(store):
    digest = await kept(store, HELLO)
    with pytest.raises(BlobTooLarge):
        await store.read(digest, max_bytes=len(HELLO) - 1)


@pytest.mark.parametrize("altered", [HELLO[:-1] + b"!", HELLO[:-1], b""])
async def test_bytes_altered_in_the_store_are_found_on_every_way_out(store, altered):
    digest = await kept(store, HELLO)
    alter(store, digest, altered)
    with pytest.raises(BlobDiffers, match="digest-mismatch"):
        await store.read(digest, max_bytes=MEGA)
    with pytest.raises(BlobDiffers, match="digest-mismatch"):
        await store.local(digest)
    with pytest.raises(BlobDiffers, match="digest-mismatch"):
        await store.list_manifest(digest, media_type=OCI_MANIFEST, artifact_type=None)


async def test_putting_again_mends_altered_bytes(store, request):
    digest = await kept(store, HELLO)
    alter(store, digest, b"spoilt")
    await kept(store, HELLO)
    if "docker-registry" in request.node.callspec.id:  # it takes the upload, finds the name in use and keeps what it has
        with pytest.raises(BlobDiffers, match="digest-mismatch"):
            await store.read(digest, max_bytes=MEGA)
    else:
        assert await store.read(digest, max_bytes=MEGA) == HELLO


NO_DIGESTS = ["sha256:../../../../etc/passwd", "../oci-layout", "", "sha256:" + "A" * 64, "sha512:" + "a" * 128, "sha256:" + "a" * 64 + "\n"]


@pytest.mark.parametrize("text", NO_DIGESTS)
async def test_no_path_is_made_from_a_text_that_is_no_digest(store, text):
    with pytest.raises(MalformedDigest):
        await store.size(Digest(text))
    with pytest.raises(MalformedDigest):
        await store.read(Digest(text), max_bytes=MEGA)
    with pytest.raises(MalformedDigest):
        await store.put(Digest(text), chunks(HELLO), max_bytes=MEGA)


async def test_two_writers_of_one_digest_are_harmless(store):
    data = os.urandom(3 * MEGA)
    digest = digest_of(data)
    sizes = []

    async def write() -> None:
        sizes.append(await store.put(digest, chunks(data[:MEGA], data[MEGA:]), max_bytes=len(data)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        nursery.start_soon(write)
    assert sizes == [len(data), len(data)]
    assert await store.read(digest, max_bytes=len(data)) == data


async def test_referrers_are_the_listed_manifests_that_name_the_subject(store):
    subject, other, alone = await manifest(store, 1), await manifest(store, 2), await manifest(store, 3)
    manifests = []
    for number, of in enumerate((subject, subject, other), start=10):
        manifests.append(await manifest(store, number, of))
        for _ in range(2):  # listing again changes nothing
            await store.list_manifest(manifests[-1], media_type=OCI_MANIFEST, artifact_type="application/x", subject=of)
    assert sorted(await store.referrers(subject)) == sorted(manifests[:2])
    assert await store.referrers(other) == manifests[2:]
    assert await store.referrers(alone) == []


async def test_listings_for_one_subject_at_once_are_all_kept(store):
    subject = await manifest(store, 1)
    manifests = [await manifest(store, number, subject) for number in range(2, 8)]
    async with trio.open_nursery() as nursery:
        for digest in manifests:
            nursery.start_soon(partial(store.list_manifest, digest, media_type=OCI_MANIFEST, artifact_type=None, subject=subject))
    assert sorted(await store.referrers(subject)) == sorted(manifests)


async def test_a_manifest_listed_for_a_subject_it_does_not_name_is_refused(store):
    subject, digest = await manifest(store, 1), await manifest(store, 2)
    with pytest.raises(BlobDiffers, match="does not name that subject"):
        await store.list_manifest(digest, media_type=OCI_MANIFEST, artifact_type=None, subject=subject)
    assert list(await store.referrers(subject)) == []


async def test_a_manifest_listed_with_another_media_type_than_its_own_is_refused(store):
    digest = await manifest(store, 1)
    with pytest.raises(BlobDiffers, match="another media type"):
        await store.list_manifest(digest, media_type=OCI_INDEX, artifact_type=None)


async def test_a_blob_of_several_chunks_comes_back_whole(store):
    data = os.urandom(9 * MEGA + 17)  # more than one PATCH to a registry
    digest = digest_of(data)
    assert await store.put(digest, chunks(*[data[at : at + MEGA] for at in range(0, len(data), MEGA)]), max_bytes=10 * MEGA) == len(data)
    assert await store.size(digest) == len(data)
    for _ in range(2):
        assert digest_of((await store.local(digest)).read_bytes()) == digest


async def test_many_listings_at_once_are_all_kept_once(tmp_path):
    # Two stores on one directory lock each other as two processes do: flock belongs to the open file.
    first, second = await open_layout(tmp_path / "a"), await open_layout(tmp_path / "a")
    digests = [await kept(first, encode_canonical({"n": n})) for n in range(20)]
    async with trio.open_nursery() as nursery:
        for digest in digests:
            for each in (first, second):

                async def add(each=each, digest=digest) -> None:
                    await each.list_manifest(digest, media_type=OCI_MANIFEST, artifact_type=None)

                nursery.start_soon(add)
    index = json.loads((tmp_path / "a" / "index.json").read_bytes())
    assert sorted(item["digest"] for item in index["manifests"]) == sorted(digests)
    assert all(item["mediaType"] == OCI_MANIFEST for item in index["manifests"])


async def test_on_disk_it_is_an_image_layout_and_blobs_are_read_only(tmp_path):
    store = await open_layout(tmp_path / "a")
    digest = await kept(store, HELLO)
    path = tmp_path / "a" / "blobs" / "sha256" / digest_hex(digest)
    assert json.loads((tmp_path / "a" / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert path.stat().st_mode & 0o777 == 0o444
    assert names(path.parent) == [digest_hex(digest)]


@pytest.mark.parametrize("step", ["write", "keep"])
async def test_a_full_disk_is_unavailable_and_leaves_nothing(tmp_path, monkeypatch, step):
    store = await open_layout(tmp_path / "a")

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(incoming.Incoming, step, full)
    with pytest.raises(Unavailable, match=r"registry-unavailable: .*No space left"):
        await store.put(digest_of(HELLO), chunks(HELLO), max_bytes=MEGA)
    assert names(tmp_path / "a" / "blobs" / "sha256") == []


@pytest.mark.parametrize("call", ["tempfile.mkstemp", "os.fsync", "os.fchmod", "pathlib.Path.replace"])
async def test_a_disk_that_fills_at_any_step_leaves_nothing_and_works_again(tmp_path, monkeypatch, call):
    store = await open_layout(tmp_path / "a")

    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    index = (tmp_path / "a" / "index.json").read_bytes()
    digest = await kept(store, b'{"n":1}')
    with monkeypatch.context() as patched:
        patched.setattr(call, full)
        with pytest.raises(Unavailable, match=r"registry-unavailable: .*No space left"):
            await store.put(digest_of(HELLO), chunks(HELLO), max_bytes=MEGA)
        with pytest.raises(Unavailable, match=r"registry-unavailable: .*No space left"):
            await store.list_manifest(digest, media_type=OCI_MANIFEST, artifact_type=None)
    assert names(tmp_path / "a" / "blobs" / "sha256") == [digest_hex(digest)]
    assert names(tmp_path / "a") == sorted([".lock", "blobs", "index.json", "oci-layout"])
    assert (tmp_path / "a" / "index.json").read_bytes() == index
    assert await kept(store, HELLO) == digest_of(HELLO)
    await store.list_manifest(digest, media_type=OCI_MANIFEST, artifact_type=None)


async def test_a_short_write_is_continued(tmp_path, monkeypatch):
    store = await open_layout(tmp_path / "a")
    init = incoming.Incoming.__init__

    class Short:
        def __init__(self, file) -> None:
            self._file = file

        def write(self, data) -> int:
            return self._file.write(bytes(data)[:3])

        def __getattr__(self, name):
            return getattr(self._file, name)

    def shortened(self, blobs) -> None:
        init(self, blobs)
        self._file = Short(self._file)

    monkeypatch.setattr(incoming.Incoming, "__init__", shortened)
    digest = await kept(store, HELLO)
    assert await store.read(digest, max_bytes=MEGA) == HELLO


async def test_a_cancelled_writer_leaves_nothing(tmp_path):
    store = await open_layout(tmp_path / "a")
    begun = trio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield HELLO
        begun.set()
        await trio.sleep_forever()

    async def write() -> None:
        await store.put(digest_of(HELLO), stuck(), max_bytes=MEGA)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await begun.wait()
        assert len(names(tmp_path / "a" / "blobs" / "sha256")) == 1
        nursery.cancel_scope.cancel()
    assert names(tmp_path / "a" / "blobs" / "sha256") == []


async def test_leftovers_of_a_killed_process_go_at_the_next_start_and_living_ones_stay(tmp_path):
    await open_layout(tmp_path / "a")
    blobs = tmp_path / "a" / "blobs" / "sha256"
    dead = blobs / ".incoming-dead"
    dead.write_bytes(b"half")
    living = incoming.Incoming(blobs)
    await open_layout(tmp_path / "a")
    assert not dead.exists()
    assert living.path.exists()
    living.discard()


async def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(Unavailable, match="no OCI image layout of version"):
        await open_layout(tmp_path)


async def test_a_link_in_place_of_a_blob_is_not_followed(tmp_path):
    store = await open_layout(tmp_path / "a")
    target = tmp_path / "outside"
    target.write_bytes(HELLO)
    (tmp_path / "a" / "blobs" / "sha256" / digest_hex(digest_of(HELLO))).symlink_to(target)
    assert await store.size(digest_of(HELLO)) is None
    with pytest.raises(Unavailable, match="registry-unavailable"):
        await store.read(digest_of(HELLO), max_bytes=MEGA)
