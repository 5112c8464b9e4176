"""Attack matrix 55 to 58 and 60 at the intake and at the decision: an image that is an index, points elsewhere, is packed, or lies about its sizes."""

import json

import pytest

from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.intake import accept_blob, accept_statement
from gatekeeper.deploy.stored import read_stored
from gatekeeper.model import uris
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Present
from gatekeeper.model.verified import Refusal
from tests.fakes import frames, signing
from tests.fakes.house import OLD_COMMIT, House, _verify_inline, anyio_backend  # noqa: F401

pytestmark = pytest.mark.anyio
ALL = frozenset({"manifest", "provenance", "test-result"})
MADE = frames.make_artifact("1")
GOOD = json.loads(MADE.manifest)
LAYER, CONFIG = GOOD["layers"][0], GOOD["config"]
INDEX = {"schemaVersion": 2, "mediaType": uris.OCI_INDEX, "manifests": [{"mediaType": uris.OCI_MANIFEST, "digest": MADE.digest, "size": len(MADE.manifest)}]}
PLATFORM = {"platform": {"os": "linux", "architecture": "arm64"}}
HOSTILE = {
    "an index": (INDEX, "/manifests: makes this an index"),
    "an index with a second platform": (INDEX | {"manifests": [INDEX["manifests"][0], {**INDEX["manifests"][0], **PLATFORM}]}, "/manifests: makes this an index"),
    "manifests beside layers": (GOOD | {"manifests": INDEX["manifests"]}, "/manifests: makes this an index"),
    "an index by its media type": (GOOD | {"mediaType": uris.OCI_INDEX}, "/mediaType: must be one of"),
    "a second layer": (GOOD | {"layers": [LAYER, LAYER]}, "/layers: has more than 1"),
    "a layer for a platform": (GOOD | {"layers": [LAYER | PLATFORM]}, "/layers/0/platform: is not a member"),
    "a foreign layer": (GOOD | {"layers": [LAYER | {"urls": ["https://evil.example/layer"]}]}, "/layers/0/urls: lets the bytes come from elsewhere"),
    "a foreign configuration": (GOOD | {"config": CONFIG | {"urls": ["https://evil.example/config"]}}, "/config/urls: lets the bytes come from elsewhere"),
    "a gzipped layer": (GOOD | {"layers": [LAYER | {"mediaType": uris.OCI_LAYER_TAR + "+gzip"}]}, "/layers/0/mediaType: must be one of"),
    "a zstd layer": (GOOD | {"layers": [LAYER | {"mediaType": uris.OCI_LAYER_TAR + "+zstd"}]}, "/layers/0/mediaType: must be one of"),
    "a layer with a title": (GOOD | {"layers": [LAYER | {"annotations": {"org.opencontainers.image.title": "../../x"}}]}, "/layers/0/annotations: is not a member"),
    "a negative size": (GOOD | {"layers": [LAYER | {"size": -1}]}, "/layers/0/size: must lie between"),
    "a size of four gigabytes": (GOOD | {"layers": [LAYER | {"size": 1 << 32}]}, "/layers/0/size: must lie between"),
    "a size that is a text": (GOOD | {"layers": [LAYER | {"size": "1"}]}, "/layers/0/size: must be an integer"),
}


@pytest.fixture
def house():
    return House()


async def chunks(data):
    yield data


def statement(house, artifact):
    source = {"repository": signing.REPOSITORY, "commit": OLD_COMMIT, "tree": "2" * 40}
    return house.ca.run(commit=OLD_COMMIT).sign(signing.manifest_statement(artifact=artifact, source=source))


async def bring(house, manifest):
    """Submit an image with these bytes for its manifest, and all the blobs that the intake then asks for."""
    artifact = digest_of(manifest)
    blobs = {digest_of(data): data for data in (manifest, MADE.config, MADE.layer)}
    bundle = statement(house, artifact)
    while missing := (await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)).missing:
        for blob in missing:
            await accept_blob(house.parts, house.run_caller(), artifact, blob.digest, chunks(blobs[blob.digest]), max_bytes=10**6)
    return artifact


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_image_that_is_not_one_manifest_and_one_plain_layer(house, name):
    document, words = HOSTILE[name]
    with pytest.raises(CallRefused, match="OCI manifest: ") as caught:
        await bring(house, encode_canonical(document))
    assert caught.value.code == "image-not-declarative"
    assert words in str(caught.value), caught.value
    assert house.artifacts.listed == []
    assert set(house.artifacts.blobs) <= {digest_of(encode_canonical(document))}, "nothing that the manifest names was taken"


@pytest.mark.parametrize("size", [1 << 63, 10**30])
async def test_a_size_that_is_no_number_of_ours(house, size):
    with pytest.raises(CallRefused, match=r"an integer is beyond 2\^53-1") as caught:
        await bring(house, MADE.manifest.replace(b'"size":%d' % LAYER["size"], b'"size":%d' % size))
    assert caught.value.code == "image-not-declarative"


@pytest.mark.parametrize("part", ["config", "layer"])
@pytest.mark.parametrize("by", [-1, 1])
async def test_a_size_that_is_not_that_of_the_bytes_is_no_artifact_to_decide_on(house, part, by):
    described = {"config": CONFIG | {"size": CONFIG["size"] + by}} if part == "config" else {"layers": [LAYER | {"size": LAYER["size"] + by}]}
    artifact = await bring(house, encode_canonical(GOOD | described))
    found = await read_stored(house.parts.artifacts, artifact)
    assert found == Present(Refusal("digest-mismatch", "a descriptor's size is not that of its bytes"))


async def test_the_image_as_it_should_be_is_taken_and_listed(house):
    artifact = await bring(house, MADE.manifest)
    assert [digest for digest, *_ in house.artifacts.listed] == [artifact] == [MADE.digest]
    found = await read_stored(house.parts.artifacts, artifact)
    assert isinstance(found, Present)
    assert not isinstance(found.value, Refusal)
