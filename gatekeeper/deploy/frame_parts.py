"""The parts of a frame to a doorkeeper (`formats.md` 6), every one of them hashed by us."""

from __future__ import annotations

from collections.abc import Mapping

from gatekeeper.model.allow import AllowTerms
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Present
from gatekeeper.model.frame import PartName
from gatekeeper.model.setting import doubt_setting_value
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.document import Configuration
from gatekeeper.ports.artifacts import BlobDiffers, BlobMissing, BlobTooLarge
from gatekeeper.ports.errors import Rejected
from gatekeeper.ports.log import Inclusion
from gatekeeper.ports.target import Part

from .parts import Parts
from .stored import MAX_CONFIG, MAX_MANIFEST, MalformedArtifact, parse_oci_manifest


async def deploy_parts(
    parts: Parts, terms: AllowTerms, inclusion: Inclusion, secrets: Mapping[str, str], bundle: bytes, crossings: bytes | None = None
) -> tuple[Part, ...]:
    """Receipt, proof, growth, the log's key changes, what may be brought back later, the artifact's blobs, the configuration, the secrets it names.

    Behind the growth the crossings, where the target remembers an older origin.

    Raises `PortError`.

    The blobs of what was adopted were never ours: they are left out, and the target takes those that it kept, hashed again.
    """
    blobs = () if terms.kept_at_target else await _blobs(parts, terms)
    found = await parts.policy.configuration(terms.config, terms.environment, terms.component)
    if not isinstance(found, Present) or isinstance(found.value, Refusal):
        raise Rejected("config-unavailable", "the configuration that was decided on cannot be read now")
    return (
        _part(PartName.RECEIPT, terms.receipt),
        _part(PartName.PROOF, inclusion.proof),
        _part(PartName.CONSISTENCY, inclusion.growth),
        *(() if inclusion.keys is None else (_part(PartName.KEYS, inclusion.keys),)),
        *(() if crossings is None else (_part(PartName.ORIGINS, crossings),)),
        _part(PartName.ROLLBACK_BUNDLE, bundle),
        *blobs[:2],
        _part(PartName.CONFIGURATION, found.value.data),
        *blobs[2:],
        _part(PartName.SETTINGS, encode_secrets(found.value, secrets)),
    )


async def _blobs(parts: Parts, terms: AllowTerms) -> tuple[Part, ...]:
    """Manifest, config and layer."""
    try:
        manifest = await parts.artifacts.read(terms.artifact, max_bytes=MAX_MANIFEST)
        artifact = parse_oci_manifest(manifest)
        config = await parts.artifacts.read(artifact.config.digest, max_bytes=MAX_CONFIG)
        layer = await parts.artifacts.local(artifact.layer.digest)
    except BlobMissing:
        raise Rejected("artifact-missing", "a blob that was there at the decision is gone") from None
    except (BlobDiffers, BlobTooLarge, MalformedArtifact) as error:
        raise Rejected("digest-mismatch", str(error)) from error
    return (
        _part(PartName.MANIFEST, manifest),
        _part(PartName.CONFIG, config),
        Part(PartName.LAYER, layer, artifact.layer.size, artifact.layer.digest),
    )


def encode_secrets(configuration: Configuration, secrets: Mapping[str, str]) -> bytes:
    """`KEY=VALUE` lines: of the vault's secrets those that the configuration names, all of them and no other. Raises `Rejected`.

    Plain values do not travel here: the target reads them from the configuration's own bytes, which the decision names.
    """
    for name in sorted(configuration.secrets):
        if name not in secrets:
            raise Rejected("config-secret-refused", f"the vault holds no secret {name} for this environment and component")
        if doubt := doubt_setting_value(secrets[name]):
            raise Rejected("config-invalid", f"the secret {name} {doubt}")
    return "".join(f"{name}={secrets[name]}\n" for name in sorted(configuration.secrets)).encode()


def _part(name: PartName, data: bytes) -> Part:
    return Part(name, data, len(data), digest_of(data))
