"""An OCI image layout on disk that holds one artifact of ours (OCI image-spec 1.1, image-layout): read and hashed before anything is signed."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.outputs import Blob
from builder.statement import Output
from gatekeeper.model import uris
from gatekeeper.model.digest import Digest, digest_hex, digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .exits import Exit, Failure

MAX_DOCUMENT: Final = 1024 * 1024
MAX_LAYER: Final = 2 * 1024**3
MAX_FILES: Final = 4096
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class LayoutArtifact:
    """The artifact: its digest, what its config says of it, the files in its layer, and its three blobs."""

    artifact: Digest
    component: str
    repository: str
    commit: str
    tree: str
    outputs: tuple[Output, ...]
    blobs: tuple[Blob, ...]


def read_layout(directory: Path) -> LayoutArtifact:
    """Read a layout with exactly one manifest; raises `Failure` where it is no such layout, or bytes are not those of their digest."""
    try:
        layout = Fields(parse_object(_bytes(directory / "oci-layout"), max_bytes=MAX_DOCUMENT))
        layout.choice("imageLayoutVersion", ("1.0.0",))
        index = Fields(parse_object(_bytes(directory / "index.json"), max_bytes=MAX_DOCUMENT))
        (described,) = list(index.objects("manifests", max_items=1)) or [Fields({}, "/manifests/0")]
        manifest = _small(directory, described, uris.OCI_MANIFEST)
        return _read_artifact(directory, manifest)
    except (MalformedJson, FieldError) as error:
        raise Failure(Exit.USAGE, f"{directory} holds no artifact: {error}") from None


def _read_artifact(directory: Path, manifest: Blob) -> LayoutArtifact:
    fields = Fields(parse_object(_content(manifest), max_bytes=MAX_DOCUMENT))
    fields.choice("artifactType", (uris.ARTIFACT_TYPE,))
    config = _small(directory, fields.nested("config"), uris.ARTIFACT_CONFIG)
    layers = list(fields.objects("layers", max_items=1))
    if len(layers) != 1:
        raise fields.error("layers", "must hold exactly one layer")
    layer = _layer(directory, layers[0])
    said = Fields(parse_object(_content(config), max_bytes=MAX_DOCUMENT))
    source = said.nested("source")
    return LayoutArtifact(
        artifact=manifest.digest,
        component=said.name("component"),
        repository=source.text("repository", max_length=1024),
        commit=source.commit("commit"),
        tree=source.commit("tree"),
        outputs=_outputs(layer),
        blobs=(manifest, config, layer),
    )


def _small(directory: Path, described: Fields, media_type: str) -> Blob:
    digest = _described(described, media_type)
    data = _bytes(_place(directory, digest))
    if digest_of(data) != digest or len(data) != described.integer("size"):
        raise described.error("digest", "is not that of the blob's bytes")
    return Blob(digest, len(data), data)


def _layer(directory: Path, described: Fields) -> Blob:
    digest = _described(described, uris.OCI_LAYER_TAR)
    place, whole, size = _place(directory, digest), hashlib.sha256(), 0
    with place.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            whole.update(chunk)
            size += len(chunk)
            if size > MAX_LAYER:
                raise described.error("size", f"more than {MAX_LAYER} bytes")
    if "sha256:" + whole.hexdigest() != digest or size != described.integer("size"):
        raise described.error("digest", "is not that of the blob's bytes")
    return Blob(digest, size, place)


def _described(described: Fields, media_type: str) -> Digest:
    described.choice("mediaType", (media_type,))
    return described.digest("digest")


def _place(directory: Path, digest: Digest) -> Path:
    return directory / "blobs" / "sha256" / digest_hex(digest)


def _content(blob: Blob) -> bytes:
    if not isinstance(blob.source, bytes):
        raise TypeError("a small blob is held in memory")
    return blob.source


def _bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise Failure(Exit.USAGE, f"{path} has more than {MAX_DOCUMENT} bytes")
    return data


def _outputs(layer: Blob) -> tuple[Output, ...]:
    """The files of the layer, hashed out of the tar: what the manifest statement lists."""
    if not isinstance(layer.source, Path):
        raise TypeError("a layer lies in a file")
    outputs: list[Output] = []
    try:
        with tarfile.open(layer.source, mode="r:", encoding="utf-8", errors="strict") as tar:
            for member in tar:
                if member.isdir():
                    continue
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None or len(outputs) >= MAX_FILES:
                    raise Failure(Exit.USAGE, f"the layer holds something else than files and directories, or more than {MAX_FILES} files")
                whole = hashlib.sha256()
                while chunk := stream.read(_CHUNK):
                    whole.update(chunk)
                outputs.append(Output(member.name.removeprefix("./"), member.size, Digest("sha256:" + whole.hexdigest())))
    except (tarfile.TarError, ValueError, IndexError, EOFError, RecursionError):  # of names that are no UTF-8, of maps and headers without end
        raise Failure(Exit.USAGE, "the layer is no plain tar file") from None
    return tuple(outputs)
