"""The artifact's manifest and configuration, read strictly (`formats.md` 2). Pure: the digests were checked before these bytes are parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gatekeeper.model import uris
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.frame import MAX_PART, PartName
from gatekeeper.model.strictjson import MalformedJson, parse_object

MAX_MANIFEST: Final = MAX_PART[PartName.MANIFEST]
MAX_CONFIG: Final = MAX_PART[PartName.CONFIG]


class MalformedArtifact(ValueError):
    """Not an artifact of our type."""


@dataclass(frozen=True)
class Blob:
    """What a manifest says about one of its blobs."""

    digest: Digest
    size: int


@dataclass(frozen=True)
class Contents:
    """The two blobs of an artifact."""

    config: Blob
    layer: Blob


@dataclass(frozen=True)
class Run:
    """How the artifact wants to be run. `argv` may hold `{port}`."""

    component: str
    argv: tuple[str, ...]
    health: str
    grace_s: int


def parse_manifest(data: bytes) -> Contents:
    """One config, one layer, our types; anything else (an index, a second layer) raises `MalformedArtifact`."""
    try:
        fields = Fields(parse_object(data, max_bytes=MAX_MANIFEST))
        fields.integer("schemaVersion", minimum=2, maximum=2)
        fields.choice("mediaType", (uris.OCI_MANIFEST,))
        fields.choice("artifactType", (uris.ARTIFACT_TYPE,))
        layers = list(fields.objects("layers", max_items=1))
        if len(layers) != 1:
            raise fields.error("layers", "must be one layer")
        fields.optional("annotations", fields.nested)
        contents = Contents(_blob(fields.nested("config"), uris.ARTIFACT_CONFIG), _blob(layers[0], uris.OCI_LAYER_TAR))
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedArtifact(f"manifest: {error}") from error
    return contents


def _blob(fields: Fields, media_type: str) -> Blob:
    fields.choice("mediaType", (media_type,))
    blob = Blob(fields.digest("digest"), fields.integer("size"))
    fields.optional("annotations", fields.nested)
    fields.done()
    return blob


def parse_config(data: bytes) -> Run:
    """The artifact's own configuration. Raises `MalformedArtifact`."""
    try:
        fields = Fields(parse_object(data, max_bytes=MAX_CONFIG))
        run = fields.nested("run")
        fields.nested("source")
        value = Run(
            component=fields.name("component"),
            argv=run.texts("argv", max_items=256, max_length=4096),
            health=run.text("health", max_length=1024),
            grace_s=run.integer("grace_s", minimum=1, maximum=3600),
        )
        run.done()
        fields.done()
    except (MalformedJson, FieldError) as error:
        raise MalformedArtifact(f"config: {error}") from error
    if not value.argv:
        raise MalformedArtifact("config: /run/argv: is empty")
    if not value.health.startswith("/") or " " in value.health:
        raise MalformedArtifact("config: /run/health: must be an absolute path without spaces")
    return value
