"""What `issuers.toml` says of one issuer beyond its name: audiences, the place of its keys, and what its platform's claims must be.

[issuers.gitlab]
kind = "gitlab"                                   # person, run, gitlab, github, kubernetes, zuul or spiffe
url = "https://gitlab.example.com"                # `iss`, to the letter
jwks_url = "https://gitlab.example.com/oauth/discovery/keys"    # or jwks = "FILE" of this repository
algorithms = ["RS256"]
audiences = ["pingee:production"]                 # may be left out: every audience of this instance
triggers = ["push"]                               # of kinds whose tokens say what set the run off
runners = ["self-hosted"]                         # may be left out: the platform's own machines alone
unbound = true                                    # of kinds whose tokens name no commit: taken all the same, to ping and to read
builds_url = "https://zuul.example.com"           # of zuul, may be left out: its REST API is asked which commit a token's build is for
token_review = false                              # of kubernetes, may be left out; then its API server is asked whether the token's pod lives
[issuers.gitlab.projects]
"20" = "hello"                                    # the platform's id of a project, and our name for it
[issuers.gitlab.builders]
"gitlab.example.com/group/hello//.gitlab-ci.yml@refs/heads/main" = "https://gitlab.example.com/group/hello"
"""

from __future__ import annotations

from urllib.parse import urlsplit

from gatekeeper.model.fields import Fields
from gatekeeper.model.issuer import (
    FOREIGN,
    HOSTED,
    TRIGGERED,
    UNTRUSTED_TRIGGERS,
    WITHOUT_COMMIT,
    IssuerKind,
    Platform,
    default_runners,
)

_MAX_TABLE = 5000


def read_key_url(fields: Fields) -> str:
    """The one place that keys are fetched from; empty where they are pinned. Raises `FieldError` for anything but a plain https URL."""
    return _plain_url(fields, "jwks_url")


def _plain_url(fields: Fields, key: str) -> str:
    if not fields.has(key):
        return ""
    url = fields.text(key, max_length=1024)
    try:
        parts = urlsplit(url)
        plain = parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        plain = False
    if not plain or not url.isascii() or any(c in url for c in "?# \\"):
        raise fields.error(key, "must be an https URL with a host, and without credentials, query or fragment")
    return url


def read_audiences(fields: Fields, instance: str, kind: IssuerKind) -> frozenset[str]:
    """The audiences of this instance that the issuer speaks to: all that its kind may, or those named."""
    ours = {f"pingee:{instance}"}
    if kind is not IssuerKind.PERSON and kind not in WITHOUT_COMMIT:
        ours.add(f"pingee:certificates:{instance}")
    if not fields.has("audiences"):
        return frozenset(ours)
    named = frozenset(fields.texts("audiences", max_items=10))
    if not named or not named <= ours:
        raise fields.error("audiences", "must be some of " + ", ".join(sorted(ours)))
    return named


def read_platform(fields: Fields, kind: IssuerKind) -> Platform | None:
    """What the claims of a foreign platform must say; None for a kind without claims of its own."""
    if kind not in FOREIGN:
        return None
    platform = Platform(
        kind=kind,
        projects=_table(fields, "projects"),
        recipes=_table(fields, "builders"),
        triggers=frozenset(fields.texts("triggers", max_items=50)) if kind in TRIGGERED else frozenset(),
        runners=_runners(fields, kind),
        unbound=kind in WITHOUT_COMMIT and bool(fields.optional("unbound", fields.boolean)),
        trust_domain=fields.text("trust_domain") if kind is IssuerKind.SPIFFE else "",
        builds_url=_plain_url(fields, "builds_url").rstrip("/") if kind is IssuerKind.ZUUL else "",
        token_review=kind is IssuerKind.KUBERNETES and fields.optional("token_review", fields.boolean) is not False,
    )
    if kind in TRIGGERED and not platform.triggers:
        raise fields.error("triggers", "must name at least one")
    if refused := platform.triggers & UNTRUSTED_TRIGGERS:
        raise fields.error("triggers", f"may not name {sorted(refused)[0]}: anybody can set off such a run")
    return platform


def _runners(fields: Fields, kind: IssuerKind) -> frozenset[str]:
    if kind not in HOSTED or not fields.has("runners"):
        return default_runners(kind)
    return frozenset(fields.texts("runners", max_items=5))


def _table(fields: Fields, key: str) -> dict[str, str]:
    table = fields.nested(key)
    names = table.names()
    if not 0 < len(names) <= _MAX_TABLE:
        raise fields.error(key, f"must have 1 to {_MAX_TABLE} rows")
    return {name: table.text(name) for name in names}
