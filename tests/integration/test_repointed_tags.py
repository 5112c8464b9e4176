"""Attack matrix 52 and 64: a tag is nobody's name for an artifact. What was verified, decided on and deployed is one digest, in the one store of ours."""

import json

import pytest

from clients.demo.certificate import make_certificate
from gatekeeper.adapters.disk import Disk
from gatekeeper.adapters.oci import OciLink
from gatekeeper.adapters.registry import RegistryStore
from gatekeeper.deploy.stored import read_stored
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.evidence import Present
from gatekeeper.model.facts import StoredArtifact
from gatekeeper.model.uris import ARTIFACT_TYPE, OCI_INDEX, OCI_MANIFEST
from tests.fakes import frames
from tests.fakes.api import running_api
from tests.fakes.oci_registry import address_of, index_of, running_registry

pytestmark = pytest.mark.anyio
GOOD, EVIL = frames.make_artifact("1"), frames.make_artifact("evil")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    make_certificate(directory, "a CA of the test")
    return directory


@pytest.fixture
def fake(certificates):
    blobs = {digest_of(data): data for made in (GOOD, EVIL) for data in (made.manifest, made.config, made.layer)}
    with running_registry(certificates, blobs=blobs) as running:
        yield running


@pytest.fixture
def store(fake, certificates, tmp_path):
    return RegistryStore(OciLink(address_of(fake, certificates)), tmp_path, Disk("the directory for the registry\'s files", code="registry-unavailable", threads=4), max_blob=1 << 20, pauses=(0, 0))


def point(fake, made):
    """Every tag that one might think of names this artifact: of people, and of the referrers' fallback for the good one."""
    for tag in ("latest", "1", "production", f"sha256-{digest_hex(GOOD.digest)}"):
        fake.manifests[tag] = (OCI_MANIFEST, made.manifest)


async def test_a_tag_that_is_pointed_elsewhere_between_verifying_and_deploying_changes_nothing(store, fake):
    point(fake, GOOD)
    await store.list_manifest(GOOD.digest, media_type=OCI_MANIFEST, artifact_type=ARTIFACT_TYPE)
    verified = await read_stored(store, GOOD.digest)
    point(fake, EVIL)
    assert await read_stored(store, GOOD.digest) == verified
    assert isinstance(verified, Present)
    assert isinstance(verified.value, StoredArtifact)
    # what the deploy takes out of the store, part by part
    assert await store.read(GOOD.digest, max_bytes=1 << 20) == GOOD.manifest
    assert await store.read(digest_of(GOOD.config), max_bytes=1 << 20) == GOOD.config
    assert (await store.local(digest_of(GOOD.layer))).read_bytes() == GOOD.layer
    names = {asked.path.rpartition("/")[2] for asked in fake.asked if asked.method != "POST" and "/uploads/" not in asked.path}
    assert names == {digest_of(data) for data in (GOOD.manifest, GOOD.config, GOOD.layer)}, "no tag was asked for"


async def test_a_fallback_tag_that_is_pointed_elsewhere_lists_nobody_elses_referrers(store, fake):
    fake.referrers_api = False
    tag = f"sha256-{digest_hex(GOOD.digest)}"
    attestation = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "subject": {"digest": EVIL.digest}}).encode()
    fake.blobs[digest_of(attestation)] = attestation
    fake.manifests[tag] = (OCI_INDEX, index_of([{"mediaType": OCI_MANIFEST, "digest": digest_of(attestation), "size": len(attestation)}]))
    assert await store.referrers(GOOD.digest) == []
    point(fake, EVIL)
    assert await store.referrers(GOOD.digest) == []


@pytest.mark.parametrize(
    "name",
    [
        "hello:1",
        "latest",
        f"sha256-{digest_hex(GOOD.digest)}",
        f"mirror.example/hello@{GOOD.digest}",
        f"hello@{GOOD.digest}",
        f"mirror.example/hello:1@{GOOD.digest}",
        f"https://mirror.example/v2/hello/blobs/{GOOD.digest}",
        f"oci://mirror.example/hello@{GOOD.digest}",
        f"{GOOD.digest}@mirror.example",
        digest_hex(GOOD.digest),
    ],
)
async def test_a_ping_names_a_digest_and_neither_a_tag_nor_a_mirror(name):
    async with running_api() as api:
        answer = await api.post("/v1/pings", api.token(), {"environment": "production", "component": "hello", "artifact": name})
        problem = answer.refused(400, "ping-malformed")
        assert "/artifact" in json.dumps(problem)
        assert (await api.get("/v1/pings", api.token())).json["items"] == []
