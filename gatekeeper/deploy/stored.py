"""The artifact's bytes in the store, hashed again: OCI manifest, its configuration, its one layer (`formats.md` 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gatekeeper.model import uris
from gatekeeper.model.digest import Digest
from gatekeeper.model.evidence import Absent, Evidence, Present
from gatekeeper.model.facts import Source, StoredArtifact
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.privatekey import holds_private_key
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.verified import Refusal
from gatekeeper.ports.artifacts import ArtifactStore, BlobDiffers, BlobMissing, BlobTooLarge

from .secret_scan import file_holds_private_key

MAX_MANIFEST: Final = 1024 * 1024
MAX_CONFIG: Final = 64 * 1024
_MAX_LAYER: Final = 2 * 1024 * 1024 * 1024


@dataclass(frozen=True)
class Descriptor:
    """An OCI content descriptor of ours: a media type, a digest, a size in bytes; nothing else is accepted."""

    media_type: str
    digest: Digest
    size: int


@dataclass(frozen=True)
class OciArtifact:
    """The parsed OCI manifest of an artifact."""

    config: Descriptor
    layer: Descriptor


class MalformedArtifact(ValueError):
    """Not an OCI manifest of our artifact type."""


def parse_oci_manifest(data: bytes) -> OciArtifact:
    """Strictly; raises `MalformedArtifact`. An index, a foreign layer or a second layer is refused."""
    try:
        fields = Fields(parse_object(data, max_bytes=MAX_MANIFEST))
        if fields.has("manifests"):
            raise fields.error("manifests", "makes this an index of several platforms: submit the manifest of each by its own digest")
        fields.integer("schemaVersion", minimum=2, maximum=2)
        fields.choice("mediaType", (uris.OCI_MANIFEST,))
        fields.choice("artifactType", (uris.ARTIFACT_TYPE,))
        config = _descriptor(fields.nested("config"), uris.ARTIFACT_CONFIG, MAX_CONFIG)
        layers = [_descriptor(layer, uris.OCI_LAYER_TAR, _MAX_LAYER) for layer in fields.objects("layers", max_items=1)]
        if len(layers) != 1:
            raise fields.error("layers", "must hold exactly one layer")
        if fields.has("annotations"):
            annotations = fields.nested("annotations")
            for name in annotations.names():
                annotations.text(name, max_length=1024)
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedArtifact(f"OCI manifest: {error}") from error
    return OciArtifact(config, layers[0])


def _descriptor(fields: Fields, media_type: str, max_size: int) -> Descriptor:
    if fields.has("urls"):
        raise fields.error("urls", "lets the bytes come from elsewhere: a foreign layer is no part of an artifact")
    found = Descriptor(fields.choice("mediaType", (media_type,)), fields.digest("digest"), fields.integer("size", maximum=max_size))
    fields.done()
    return found


def parse_config(data: bytes) -> tuple[str, Source]:
    """Component and source of an artifact's config blob; how it runs is the doorkeeper's to read. Raises `MalformedArtifact`."""
    try:
        fields = Fields(parse_object(data, max_bytes=MAX_CONFIG))
        component = fields.name("component")
        source = fields.nested("source")
        found = Source(source.text("repository", max_length=1024), source.commit("commit"), source.commit("tree"))
        source.done()
        fields.nested("run")
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedArtifact(f"artifact config: {error}") from error
    return component, found


async def read_stored(store: ArtifactStore, artifact: Digest) -> Evidence[StoredArtifact | Refusal]:
    """Hash everything the artifact is made of. Raises `PortError` only where the store is away."""
    try:
        manifest = await store.read(artifact, max_bytes=MAX_MANIFEST)
        parsed = parse_oci_manifest(manifest)
        config = await store.read(parsed.config.digest, max_bytes=MAX_CONFIG)
        layer = await store.local(parsed.layer.digest)
        component, source = parse_config(config)
    except BlobMissing:
        return Absent()
    except BlobDiffers as error:
        return Present(Refusal("digest-mismatch", error.detail or "the stored bytes are not those of the digest"))
    except (BlobTooLarge, MalformedArtifact) as error:
        return Present(Refusal("digest-mismatch", str(error)))
    size = layer.stat().st_size
    if len(config) != parsed.config.size or size != parsed.layer.size:
        return Present(Refusal("digest-mismatch", "a descriptor's size is not that of its bytes"))
    private_key = holds_private_key((config,)) or await file_holds_private_key(layer)
    return Present(StoredArtifact(artifact, component, source, len(manifest) + len(config) + size, private_key), (artifact,))
