"""Files of one commit of the policy repository to a `Policy` (`formats.md` 4). Pure: the caller reads git and verifies signatures.

Refused with `PolicyError` (code `config-invalid`): what does not parse, unknown members, names that point nowhere, thresholds that would let
anybody through. TOML has no anchors and refuses duplicate keys by itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import PurePosixPath

from gatekeeper.model.decision import Mode
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.issuer import FOREIGN, IssuerKind
from gatekeeper.model.setting import doubt_setting_name
from gatekeeper.model.unfilled import sentence, unfilled

from . import issuers, revocations
from .builders import read_signer
from .document import (
    Builder,
    Component,
    Configuration,
    Environment,
    EnvironmentClass,
    IssuerEntry,
    Person,
    Policy,
    Project,
    RoleGrant,
    VoteThreshold,
)
from .expectations import read_expectations

MAX_FILE = 256 * 1024
MAX_FILES = 5000
ROLES = ("D", "R", "O", "S", "A", "P")
STAGES = ("commit", "acceptance")
_DEFAULT_STAGE_WAIT_S = 3600


class PolicyError(ValueError):
    """The policy does not parse or contradicts itself; nothing of it is used. `code` is a *load* reason code."""

    def __init__(self, file: str, detail: str, code: str = "config-invalid") -> None:
        super().__init__(f"{file}: {detail}")
        self.file = file
        self.detail = detail
        self.code = code


def policy_digest(files: Mapping[str, bytes]) -> Digest:
    """One digest over all files: names and bytes, in the order of their names, each length-prefixed."""
    whole = hashlib.sha256()
    for name in sorted(files):
        for part in (name.encode(), files[name]):
            whole.update(len(part).to_bytes(8, "big") + part)
    return Digest("sha256:" + whole.hexdigest())


def parse_policy(files: Mapping[str, bytes], *, commit: str) -> Policy:
    """Build the policy; raises `PolicyError` naming the file."""
    if len(files) > MAX_FILES:
        raise PolicyError("/", f"more than {MAX_FILES} files")
    top = _read(files, "policy.toml")
    with _In("policy.toml"):
        instance = top.name("instance")
        anonymous = top.choice("anonymous", ("public", "none"))
        top.done()
    policy = Policy(
        instance=instance,
        anonymous_reads=anonymous == "public",
        commit=commit,
        digest=policy_digest(files),
        people=_people(files),
        roles=_roles(files),
        issuers=_issuers(files, instance),
        builders=_builders(files),
        projects={name: _project(name, fields) for name, fields in _folder(files, "projects")},
        components={name: _component(name, fields) for name, fields in _folder(files, "components")},
        environments={name: _environment(name, fields) for name, fields in _folder(files, "environments")},
        revocations=_revocations(files),
    )
    _check_names(policy)
    _check_configurations(files, commit)
    return policy


def parse_configuration(data: bytes, *, commit: str, file: str) -> Configuration:
    """`config/ENVIRONMENT/COMPONENT.toml`: `[values]` plain strings, `secrets` a list of names."""
    fields = _toml(data, file)
    with _In(file):
        values: dict[str, str] = {}
        if fields.has("values"):
            table = fields.nested("values")
            values = {_setting_name(table, key): table.text(key, max_length=4096, min_length=0) for key in table.names()}
        secrets = fields.optional("secrets", lambda key: fields.texts(key, max_items=100)) or ()
        for number, name in enumerate(secrets):
            _setting_name(Fields({}, fields.at("secrets")), name, str(number))
        if overlap := set(secrets) & set(values):
            raise fields.error("secrets", f"{sorted(overlap)[0]} is also a plain value")
        fields.done()
    return Configuration(commit=commit, data=data, values=values, secrets=frozenset(secrets))


def _setting_name(fields: Fields, name: str, key: str | None = None) -> str:
    if doubt := doubt_setting_name(name):
        raise fields.error(key or name[:64], doubt)
    return name


def _check_configurations(files: Mapping[str, bytes], commit: str) -> None:
    # Here and not at the first deploy: whoever wrote a commit that cannot be installed should hear of it when it is pushed.
    for file in sorted(files):
        path = PurePosixPath(file)
        if len(path.parts) == 3 and path.parts[0] == "config" and path.suffix == ".toml":
            parse_configuration(files[file], commit=commit, file=file)


class _In:
    """Turns a `FieldError` into a `PolicyError` that names the file."""

    def __init__(self, file: str) -> None:
        self._file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FieldError):
            raise PolicyError(self._file, str(error)) from error


def _toml(data: bytes, file: str) -> Fields:
    if len(data) > MAX_FILE:
        raise PolicyError(file, f"more than {MAX_FILE} bytes")
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib passes on int()'s own ValueError for a number of thousands of digits
        raise PolicyError(file, f"does not parse: {error}") from error
    if places := unfilled(document, text):
        raise PolicyError(file, sentence(places))
    return Fields(document)


def _read(files: Mapping[str, bytes], file: str) -> Fields:
    if file not in files:
        raise PolicyError(file, "is missing")
    return _toml(files[file], file)


def _table(files: Mapping[str, bytes], file: str, key: str) -> Fields:
    """The one table that a file holds."""
    top = _read(files, file)
    table = top.nested(key)
    top.done()
    return table


def _folder(files: Mapping[str, bytes], folder: str) -> list[tuple[str, Fields]]:
    found = []
    for file in sorted(files):
        path = PurePosixPath(file)
        if path.parent == PurePosixPath(folder) and path.suffix == ".toml":
            with _In(file):
                name = Fields({"file name": path.stem}).name("file name")
            found.append((name, _toml(files[file], file)))
    return found


def _keys(files: Mapping[str, bytes], file: str) -> bytes:
    if len(files[file]) > MAX_FILE:
        raise PolicyError(file, f"more than {MAX_FILE} bytes")
    return files[file]


def _named(table: Fields, key: str) -> str:
    """A table's key that must be a name of ours."""
    return Fields({key: key}, table.pointer).name(key)


def _people(files: Mapping[str, bytes]) -> dict[str, Person]:
    people: dict[str, Person] = {}
    with _In("people.toml"):
        table = _table(files, "people.toml", "people")
        for name in table.names():
            fields = table.nested(_named(table, name))
            accounts: dict[str, str] = {}
            if fields.has("accounts"):
                inner = fields.nested("accounts")
                accounts = {key: inner.text(key) for key in inner.names()}
            people[name] = Person(
                name=name,
                issuer=fields.text("issuer"),
                subject=fields.text("subject"),
                emails=frozenset(e.lower() for e in fields.texts("emails", max_items=20)),
                keys=tuple(_person_key(fields, text) for text in fields.texts("keys", max_items=10)),
                groups=frozenset(fields.texts("groups", max_items=50)),
                accounts=accounts,
            )
            fields.done()
    _refuse_shared(people)
    return people


def _person_key(fields: Fields, text: str) -> bytes:
    kind, _, encoded = text.partition(" ")
    try:
        key = base64.b64decode(encoded.encode(), validate=True)
    except binascii.Error:
        key = b""
    if kind != "ed25519" or len(key) != 32 or base64.b64encode(key).decode() != encoded:
        raise fields.error("keys", "a key is 'ed25519 ' and the base64 of 32 bytes")
    return key


def _refuse_shared(people: Mapping[str, Person]) -> None:
    # One person with two names would be two votes: identities, keys, accounts and addresses belong to one name only.
    seen: dict[object, str] = {}
    for person in people.values():
        marks: list[object] = [(person.issuer, person.subject), *person.keys, *person.emails, *person.accounts.items()]
        for mark in marks:
            if seen.setdefault(mark, person.name) != person.name:
                raise PolicyError("people.toml", f"{person.name} and {seen[mark]} share an identity, key, account or address")


def _roles(files: Mapping[str, bytes]) -> tuple[RoleGrant, ...]:
    grants = []
    with _In("roles.toml"):
        top = _read(files, "roles.toml")
        for fields in top.objects("role", max_items=500):
            grant = RoleGrant(fields.choice("role", ROLES), fields.text("group"), fields.text("scope"))
            if grant.scope.count("/") != 1 or not all(grant.scope.split("/")):
                raise fields.error("scope", "is ENVIRONMENT/COMPONENT, either may be '*'")
            fields.done()
            grants.append(grant)
        top.done()
    return tuple(grants)


def _issuers(files: Mapping[str, bytes], instance: str) -> dict[str, IssuerEntry]:
    found: dict[str, IssuerEntry] = {}
    with _In("issuers.toml"):
        table = _table(files, "issuers.toml", "issuers")
        for name in table.names():
            fields = table.nested(_named(table, name))
            kind = IssuerKind(fields.choice("kind", tuple(IssuerKind)))
            claims = fields.nested("claims") if fields.has("claims") else Fields({})
            if kind in FOREIGN and claims.names():
                raise fields.error("claims", f"cannot be renamed: {kind.value} names its claims itself")
            found[name] = IssuerEntry(
                name=name,
                url=fields.text("url", max_length=1024),
                jwks=_pinned_keys(files, fields),
                jwks_url=issuers.read_key_url(fields),
                kind=kind,
                audiences=issuers.read_audiences(fields, instance, kind),
                algorithms=fields.texts("algorithms", max_items=5),
                claims={key: claims.text(key) for key in claims.names()},
                platform=issuers.read_platform(fields, kind),
            )
            fields.done()
            if not found[name].algorithms:
                raise fields.error("algorithms", "must name at least one")
    urls = [issuer.url for issuer in found.values()]
    if len(set(urls)) != len(urls):
        # Which of the two a token is checked by, and whether it speaks for a run or a person, would be chance.
        raise PolicyError("issuers.toml", "two issuers have one url")
    return found


def _pinned_keys(files: Mapping[str, bytes], fields: Fields) -> bytes:
    if fields.has("jwks_url"):
        if fields.has("jwks"):
            raise fields.error("jwks", "is given beside jwks_url: keys are pinned or fetched, not both")
        return b""
    jwks = fields.text("jwks")
    if jwks not in files:
        raise fields.error("jwks", "names no file of this repository")
    return _keys(files, jwks)


def _builders(files: Mapping[str, bytes]) -> dict[str, Builder]:
    builders: dict[str, Builder] = {}
    with _In("builders.toml"):
        table = _table(files, "builders.toml", "builders")
        for builder_id in table.names():
            fields = table.nested(builder_id)
            builders[builder_id] = Builder(
                id=builder_id,
                issuer=fields.text("issuer"),
                signer=read_signer(fields, files, lambda file: _keys(files, file)),
                projects=frozenset(fields.texts("projects", max_items=5000)),
            )
            fields.done()
    return builders


def _revocations(files: Mapping[str, bytes]) -> revocations.Revocations:
    if revocations.FILE not in files:
        return revocations.Revocations()
    with _In(revocations.FILE):
        return revocations.read_revocations(_toml(files[revocations.FILE], revocations.FILE))


def _project(name: str, fields: Fields) -> Project:
    with _In(f"projects/{name}.toml"):
        project = Project(
            name=name,
            repository=fields.text("repository", max_length=1024),
            default_branch=fields.text("default_branch"),
            approved=frozenset(fields.texts("approved", max_items=100)),
        )
        fields.choice("review", ("attestations",))
        fields.done()
    return project


def _component(name: str, fields: Fields) -> Component:
    with _In(f"components/{name}.toml"):
        targets = fields.nested("targets")
        expectations = fields.nested("expectations")
        build_type = expectations.text("build_type")
        component = Component(
            name=name,
            project=fields.name("project"),
            targets={key: targets.texts(key, max_items=50) for key in targets.names()},
            modes=_modes(fields, tuple(targets.names())),
            builder=expectations.text("builder"),
            build_type=build_type,
            expectations=read_expectations(expectations, build_type),
        )
        fields.done()
        for environment, names in component.targets.items():
            # one target now: an outcome over several hosts needs `landing`'s all-or-nothing
            if len(names) != 1:
                raise targets.error(environment, "must name exactly one target")
    return component


def _modes(fields: Fields, environments: tuple[str, ...]) -> dict[str, Mode]:
    """One word for everywhere, or a table with exactly the environments that have targets: a mode left out is no mode."""
    words = tuple(mode.value for mode in Mode)
    if isinstance(fields.raw("mode"), str):
        return dict.fromkeys(environments, Mode(fields.choice("mode", words)))
    table = fields.nested("mode")
    modes = {name: Mode(table.choice(name, words)) for name in environments}
    table.done()
    return modes


def _environment(name: str, fields: Fields) -> Environment:
    with _In(f"environments/{name}.toml"):
        environment_class = EnvironmentClass(fields.choice("class", tuple(c.value for c in EnvironmentClass)))
        stages = fields.texts("stages", max_items=10)
        for stage in stages:
            if stage not in STAGES:
                raise fields.error("stages", "may name 'commit' and 'acceptance'")
        fields.choice("merge", ("none",))
        votes = fields.optional("votes", lambda key: _threshold(fields.nested(key)))
        wait = fields.optional("stage_wait_s", lambda key: fields.integer(key, minimum=0, maximum=7 * 86400))
        fields.done()
        if environment_class is EnvironmentClass.PRODUCTION and (votes is None or not stages):
            raise fields.error("votes", "a production environment needs stages and a vote threshold: empty means nobody may deploy")
    return Environment(
        name=name,
        environment_class=environment_class,
        stages=stages,
        votes=votes,
        stage_wait_s=_DEFAULT_STAGE_WAIT_S if wait is None else wait,
    )


def _threshold(fields: Fields) -> VoteThreshold:
    threshold = VoteThreshold(
        label=fields.text("label"),
        value=fields.integer("value", minimum=1, maximum=100),
        count=fields.integer("count", minimum=1, maximum=100),
        groups=frozenset(fields.texts("groups", max_items=50)),
        veto=fields.integer("veto", minimum=-100, maximum=-1),
    )
    fields.done()
    if not threshold.groups:
        raise fields.error("groups", "must name at least one group whose members may vote")
    return threshold


def _check_names(policy: Policy) -> None:
    for person in policy.people.values():
        # An account at an issuer misspelt would hide from `votes-self` that voter and uploader are one.
        for issuer in (person.issuer, *person.accounts):
            if issuer not in policy.issuers:
                raise PolicyError("people.toml", f"{person.name} names the unknown issuer {issuer}")
    for builder in policy.builders.values():
        if builder.issuer not in policy.issuers:
            raise PolicyError("builders.toml", f"{builder.id} names the unknown issuer {builder.issuer}")
    for entry in policy.issuers.values():
        _check_platform(policy, entry)
    keys = {revocations.key_line(key) for person in policy.people.values() for key in person.keys}
    for row in policy.revocations.rows.values():
        if unknown := revocations.misses(row, policy.builders, keys):
            raise PolicyError(revocations.FILE, unknown)
    for component in policy.components.values():
        file = f"components/{component.name}.toml"
        if component.project not in policy.projects:
            raise PolicyError(file, f"names the unknown project {component.project}")
        if component.builder not in policy.builders:
            raise PolicyError(file, f"expects the unknown builder {component.builder}")
        for environment in component.targets:
            if environment not in policy.environments:
                raise PolicyError(file, f"has targets in the unknown environment {environment}")


def _check_platform(policy: Policy, entry: IssuerEntry) -> None:
    if entry.platform is None:
        return
    for project in entry.platform.projects.values():
        if project not in policy.projects:
            raise PolicyError("issuers.toml", f"{entry.name} names the unknown project {project}")
    for builder_id in entry.platform.recipes.values():
        builder = policy.builders.get(builder_id)
        if builder is None or builder.issuer != entry.name:
            raise PolicyError("issuers.toml", f"{entry.name} names {builder_id}, which is no builder of this issuer")
