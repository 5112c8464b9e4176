"""`[expectations]` of a component: what the provenance of its artifacts must say, each compared to the letter (`formats.md` 4).

[expectations]
builder = "https://ci.example.com/builder"
build_type = "https://pingee.internal/pipeline/v1"
# What follows may be left out, and then is what our own builds say: never "anything".
repository = "https://github.com/group/hello"      # the project's
repository_id = "1296269"                          # none; the platform's number of the repository, which outlives its name
refs = ["refs/tags/v13.0"]                         # the project's default branch, as refs/heads/NAME
triggers = ["push"]                                # none: provenance that names what set the run off is refused
runners = ["github-hosted"]                        # none: the same for the kind of machine
legacy = ["https://slsa.dev/provenance/v0.2"]      # none; older forms that count for this component
dependencies = [{ uri = "git+https://git.example.com/theme@refs/heads/main", digest = { gitCommit = "..." } }]   # none beside the source
[expectations.parameters]                          # config = ".pipeline/config.yaml" for our build type, none for another
workflow.path = ".github/workflows/build.yml"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gatekeeper.model.canonical import NotCanonical
from gatekeeper.model.facts import Dependency
from gatekeeper.model.fields import Fields
from gatekeeper.model.issuer import UNTRUSTED_TRIGGERS
from gatekeeper.model.parameters import Parameters, TooManyParameters, flatten_parameters
from gatekeeper.model.uris import PIPELINE, PIPELINE_CONFIG, PROVENANCE_V02, STATEMENT_V01

_FORMS: Final = (STATEMENT_V01, PROVENANCE_V02)
_REFS: Final = ("refs/heads/", "refs/tags/", "refs/changes/", "refs/merge-requests/", "refs/pull/")
_MAX_LISTED: Final = 100


@dataclass(frozen=True)
class Expectations:
    """What the policy says of a component's provenance beyond builder and build type. Empty is what our own builds say."""

    repository: str = ""
    """empty: the project's"""
    repository_id: str = ""
    refs: frozenset[str] = frozenset()
    """full refs; empty: the project's default branch"""
    triggers: frozenset[str] = frozenset()
    runners: frozenset[str] = frozenset()
    parameters: Parameters = ()
    dependencies: frozenset[Dependency] = frozenset()
    legacy: frozenset[str] = frozenset()


def read_expectations(fields: Fields, build_type: str) -> Expectations:
    """Read the members beyond builder and build type; raises `FieldError`."""

    def optional(key: str) -> str:
        return fields.optional(key, lambda name: fields.text(name, max_length=1024)) or ""

    expectations = Expectations(
        repository=optional("repository"),
        repository_id=optional("repository_id"),
        refs=_listed(fields, "refs", _doubt_ref),
        triggers=_listed(fields, "triggers", _doubt_trigger),
        runners=_listed(fields, "runners"),
        parameters=fields.optional("parameters", lambda key: _parameters(fields, key)) or _usual(build_type),
        dependencies=fields.optional("dependencies", lambda key: _dependencies(fields, key)) or frozenset(),
        legacy=_listed(fields, "legacy", _doubt_form),
    )
    fields.done()
    return expectations


def _usual(build_type: str) -> Parameters:
    return flatten_parameters({"config": PIPELINE_CONFIG}) if build_type == PIPELINE else ()


def _listed(fields: Fields, key: str, doubt: Callable[[str], str] | None = None) -> frozenset[str]:
    if not fields.has(key):
        return frozenset()
    found = fields.texts(key, max_items=_MAX_LISTED)
    if not found:
        raise fields.error(key, "names nothing; leave it out")
    for text in found:
        if doubt is not None and (why := doubt(text)):
            raise fields.error(key, why)
    return frozenset(found)


def _doubt_ref(ref: str) -> str:
    # `main` alone could be a branch or a tag; and a pattern would be compared as it stands, and match nothing
    whole = ref.startswith(_REFS) and not ref.endswith("/") and not any(c in ref for c in "*?[")
    return "" if whole else "must be whole refs, such as refs/heads/main or refs/tags/v1; nothing is matched by pattern"


def _doubt_trigger(trigger: str) -> str:
    return f"may not name {trigger}: anybody can set off such a run" if trigger in UNTRUSTED_TRIGGERS else ""


def _doubt_form(form: str) -> str:
    return "" if form in _FORMS else "may name " + " and ".join(_FORMS)


def _parameters(fields: Fields, key: str) -> Parameters:
    table = fields.nested(key)
    try:
        found = flatten_parameters({name: table.raw(name) for name in table.names()})
    except (NotCanonical, TooManyParameters) as error:
        raise fields.error(key, str(error)) from error
    if not found:
        raise fields.error(key, "names nothing; leave it out")
    return found


def _dependencies(fields: Fields, key: str) -> frozenset[Dependency]:
    found = set()
    for item in fields.objects(key, max_items=_MAX_LISTED):
        uri, digests = item.text("uri", max_length=2048), item.nested("digest")
        named = tuple(sorted((name, digests.text(name)) for name in digests.names()))
        item.done()
        if not named:
            raise item.error("digest", "names nothing: what was not resolved was not reviewed")
        found.add(Dependency(uri, named))
    return frozenset(found)
