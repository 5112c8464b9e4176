"""The good and bad documents of opencontainers/image-spec, read from beside the checkout, at the doors where we read OCI manifests.

Ours take one shape of manifest and nothing else. So every bad document must be refused for the field that is bad, and a good one is refused only
for a field in which it is not ours; put into our shape, it is taken.
"""

import json
import os
from pathlib import Path

import pytest

from clients.doorkeeper import artifact as door
from gatekeeper.adapters.layout import open_layout
from gatekeeper.deploy import stored
from gatekeeper.model import uris
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.ports.errors import Unavailable

CORPORA = Path(os.environ.get("PINGEE_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
COUNTS = {"descriptor": (30, 18), "manifest": (11, 6), "index": (12, 7), "layout": (2, 1), "compat": (4, 0), "config": (10, 8)}
DIGEST = "sha256:" + "a" * 64
READERS = {"gatekeeper": (stored.parse_oci_manifest, stored.MalformedArtifact), "doorkeeper": (door.parse_manifest, door.MalformedArtifact)}


@pytest.fixture(params=READERS)
def reader(request):
    return READERS[request.param]


def cases(kind: str) -> list[dict]:
    file = CORPORA / "oci-image-spec" / "cases" / f"{kind}.json"
    if not file.is_file():
        message = f"PUBLIC VECTORS MISSING: oci-image-spec/cases/{kind}.json is not in the corpora (set PINGEE_CORPORA or run make corpora)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    found = json.loads(file.read_bytes())
    assert (len(found), sum(case["expect"] == "fail" for case in found)) == COUNTS[kind]
    return found


def ours(**changed: object) -> dict[str, object]:
    config = {"mediaType": uris.ARTIFACT_CONFIG, "digest": DIGEST, "size": 100}
    layer = {"mediaType": uris.OCI_LAYER_TAR, "digest": DIGEST, "size": 1000}
    return {"schemaVersion": 2, "mediaType": uris.OCI_MANIFEST, "artifactType": uris.ARTIFACT_TYPE, "config": config, "layers": [layer], **changed}


def refusal(reader, document: bytes) -> str:
    """Why it is refused; empty where it is taken."""
    parse, malformed = reader
    try:
        parse(document)
    except malformed as error:
        return str(error)
    return ""


def test_our_own_shape_is_taken(reader):
    assert refusal(reader, encode_canonical(ours())) == ""


def bad_field(comment: str) -> str:
    """The field that a descriptor's comment is about."""
    return next(field for field in ("mediaType", "artifactType", "urls", "data", "size", "digest") if field in comment or (field == "digest" and "algorithm" in comment))


def test_descriptors(reader):
    """Each as the layer of a manifest that is otherwise ours. Row 57 and 58: sizes, digests and `urls`."""
    for case in cases("descriptor"):
        descriptor = json.loads(case["document"])
        if "mediaType" not in case["comment"]:
            descriptor["mediaType"] = uris.OCI_LAYER_TAR
        why = refusal(reader, encode_canonical(ours(layers=[descriptor])))
        plain = set(descriptor) == {"mediaType", "digest", "size"} and descriptor["mediaType"] == uris.OCI_LAYER_TAR
        if case["expect"] == "fail":
            assert f"/layers/0/{bad_field(case['comment'])}" in why, (case, why)
        elif not (plain and descriptor["digest"].startswith("sha256:")):
            assert "/layers/0/" in why, (case, why)
        else:
            assert why == "", (case, why)


def test_descriptors_of_good_documents_are_taken_in_our_shape(reader):
    """What is spelled well and hashed by SHA-256 is taken, once it is called what ours is called."""
    taken = 0
    for case in cases("descriptor"):
        descriptor = json.loads(case["document"])
        if case["expect"] == "pass" and descriptor["digest"].startswith("sha256:"):
            plain = {"mediaType": uris.OCI_LAYER_TAR, "digest": descriptor["digest"], "size": descriptor["size"]}
            assert refusal(reader, encode_canonical(ours(layers=[plain]))) == "", case
            taken += 1
    assert taken == 6


def without_fault(document: str) -> dict | None:
    """The document, or None for one that is no JSON at all."""
    try:
        return json.loads(document)
    except ValueError:
        return None


def test_manifests(reader):
    """Each as it is: foreign images, and broken ones. None is ours, and the reason names a field of the document."""
    for case in cases("manifest") + [case for case in cases("compat") if "Manifest" in case["test"]]:
        why = refusal(reader, case["document"].encode())
        assert "anifest: /" in why or why.endswith("delimiter at line 19 column 1"), (case, why)  # one misses a brace


def test_manifests_in_our_shape(reader):
    """With the types of ours in place of each well-spelled one, what was good is taken and what was bad is refused for what is bad."""
    taken = refused = 0
    for case in cases("manifest"):
        if (document := without_fault(case["document"])) is None:
            continue
        document = {name: value for name, value in document.items() if name != "subject"} if case["expect"] == "pass" else document
        document["artifactType"] = uris.ARTIFACT_TYPE
        for descriptor, media_type in [(document.get("config"), uris.ARTIFACT_CONFIG), *[(layer, uris.OCI_LAYER_TAR) for layer in document.get("layers", [])]]:
            if isinstance(descriptor, dict) and "/" in str(descriptor.get("mediaType")):
                descriptor["mediaType"] = media_type
        document["layers"] = document.get("layers", [])[:1] if case["expect"] == "pass" else document.get("layers", [])
        why = refusal(reader, encode_canonical(document))
        assert (why == "") == (case["expect"] == "pass"), (case, why)
        taken, refused = taken + (why == ""), refused + (why != "")
    assert (taken, refused) == (5, 5)


def test_an_index_is_refused_as_one(reader):
    """Row 56: no second platform comes along with one that was verified."""
    for case in cases("index") + [case for case in cases("compat") if "Index" in case["test"]]:
        assert refusal(reader, case["document"].encode()), case
    gatekeeper = READERS["gatekeeper"]
    for case in cases("index"):
        if case["expect"] == "pass":
            assert "/manifests: makes this an index of several platforms" in refusal(gatekeeper, case["document"].encode()), case


@pytest.mark.parametrize("kind", ["index", "manifest", "config"])
def test_no_document_of_another_kind_passes_for_a_manifest_of_ours(reader, kind):
    for case in cases(kind):
        assert refusal(reader, case["document"].encode()), case


@pytest.mark.anyio
async def test_layouts(tmp_path):
    for number, case in enumerate(cases("layout")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "oci-layout").write_text(case["document"])
        if case["expect"] == "pass":
            await open_layout(tmp_path / str(number))
        else:
            with pytest.raises(Unavailable, match="holds no OCI image layout of version"):
                await open_layout(tmp_path / str(number))


# rows of the attack matrix that need no public document

AMBIGUOUS = [
    (ours(manifests=[{"mediaType": uris.OCI_MANIFEST, "digest": DIGEST, "size": 1}]), "/manifests"),  # row 55
    (ours(mediaType=uris.OCI_INDEX), "/mediaType"),  # row 55
    (ours(mediaType="application/vnd.docker.distribution.manifest.v2+json"), "/mediaType"),
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR, "digest": DIGEST, "size": 1}] * 2), "/layers"),
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR, "digest": DIGEST, "size": 1, "urls": ["https://evil.example/layer"]}]), "/layers/0/urls"),  # row 58
    (ours(layers=[{"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": DIGEST, "size": 1}]), "/layers/0/mediaType"),  # row 58
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR + "+gzip", "digest": DIGEST, "size": 1}]), "/layers/0/mediaType"),  # row 60: nothing is unpacked
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR + "+zstd", "digest": DIGEST, "size": 1}]), "/layers/0/mediaType"),
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR, "digest": DIGEST, "size": -1}]), "/layers/0/size"),  # row 57
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR, "digest": DIGEST, "size": 1, "platform": {"architecture": "amd64", "os": "linux"}}]), "/layers/0/platform"),
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR, "digest": DIGEST, "size": 1, "data": "AA=="}]), "/layers/0/data"),
]


@pytest.mark.parametrize(("document", "pointer"), AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_refused_for_the_field_that_allows_it(reader, document, pointer):
    assert pointer in refusal(reader, encode_canonical(document))


# The doorkeeper is told how much it may take in the order itself, and looks at no annotation.
BOUNDED_AT_THE_GATE = [
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR, "digest": DIGEST, "size": 2**40}]), "/layers/0/size"),
    (ours(config={"mediaType": uris.ARTIFACT_CONFIG, "digest": DIGEST, "size": 2**31}), "/config/size"),
    (ours(layers=[{"mediaType": uris.OCI_LAYER_TAR, "digest": DIGEST, "size": 1, "annotations": {"org.opencontainers.image.title": "../../etc/x"}}]), "/layers/0/annotations"),  # row 60
]


@pytest.mark.parametrize(("document", "pointer"), BOUNDED_AT_THE_GATE)
def test_what_the_gatekeeper_lets_no_target_see(document, pointer):
    assert pointer in refusal(READERS["gatekeeper"], encode_canonical(document))


def test_a_size_of_two_to_the_sixty_third_is_no_number_of_ours(reader):
    """Row 57."""
    text = json.dumps(ours()).replace('"size": 1000', '"size": 9223372036854775808')
    assert refusal(reader, text.encode())
