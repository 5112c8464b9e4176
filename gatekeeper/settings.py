"""The only reader of the gatekeeper's configuration file. Strict: an unknown member is an error that names file and key.

    instance = "production"
    origin = "production.example/log/2026"
    public_url = "https://gatekeeper.example"
    state = "state"                        # relative paths are relative to this file
    allow_s = 600                          # may be left out: seconds that an Allow lives; after it nothing is leased or applied
    observe_s = 60                         # may be left out: seconds between two questions to a target what it runs

    [public]                               # the listener of the API, over TLS
    host = "127.0.0.1"
    port = 8443
    certificate = "tls.pem"
    key = "tls.key"
    connections_per_address = 256          # may be left out; behind a reverse proxy: as many as the proxy opens

    [operator]                             # livez, readyz, metrics: never reachable from outside
    host = "127.0.0.1"
    port = 8444

    [database]
    url_file = "database.url"              # 0600; it may hold a password, so it is a file of its own

    [vault]
    url = "https://127.0.0.1:8200"
    ca_file = "vault-ca.pem"
    log_key = "production.vkey"            # the log's verifier key
    receipt_key = "production-receipt.pem"
    key_version = 1                        # may be left out: then the version at which the vault keeps each of the two keys
    past_log_keys = []                     # may be left out: keys that log_key replaced; what they signed stays readable
    past_receipt_keys = []                 # may be left out: likewise for receipt_key
    # log_key_order = "rotate.order"       # only while a key is rotated: two people's order that names the key to follow log_key
    # receipt_key_order = "rotate.order"   # likewise for receipt_key

    [policy]
    remote = "https://git.example/policy.git"
    branch = "production"
    root = "<commit>"                      # the first commit, pinned at installation
    signers = "allowed_signers"            # who may have signed it
    refresh_s = 10

    [artifacts]                            # `directory`, or `registry` with what belongs to it
    directory = "artifacts"                # an OCI image layout, shared by all replicas
    max_blob = 536870912                   # bytes of one blob
    # registry = "https://registry.example:5000"
    # repository = "pingee/production"     # of this instance alone
    # username_file = "registry.user"      # both may be left out: then nothing but an anonymous token is asked for
    # password_file = "registry.password"  # 0600
    # ca_file = "registry-ca.pem"          # may be left out: the public CAs of the package certifi
    # token_hosts = ["auth.example"]       # may be left out; may be shown the password, as the realm of the registry's tokens
    # blob_hosts = ["storage.example"]     # may be left out; downloads may be redirected there, without a credential

    [operators]                            # may be left out: then nobody can order anything about the log
    keys = "operator-keys"                 # lines NAME ed25519 BASE64: the log's administrators, named as in people.toml

    [witnesses]                            # may be left out: then checkpoints are published without witnesses
    policy = "witnesses.policy"            # the log policy file that verifiers are given (C2SP tlog-policy): witnesses, their URLs, the quorum
    ca_file = "witness-ca.pem"             # may be left out: the system's CAs
    fail_open = false                      # may be left out; true publishes without the quorum, once the log says so: needs `order`
    order = "witnesses.order"              # may be left out; the order of two operators that the log records: pingee log order new witnesses

    [issuers]                              # may be left out
    ca_file = "issuers-ca.pem"             # CAs of the places where issuers' keys are fetched; left out: the system's

    [clusters.ci-cluster]                  # for each issuer of kind kubernetes whose tokens are reviewed, under its name in the policy
    url = "https://10.0.0.9:6443"          # the API server
    ca_file = "ci-cluster-ca.pem"
    token_file = "ci-cluster.token"        # 0600; of a service account that may create tokenreviews and do nothing else

    [targets.web-1]
    environment = "production"
    host = "10.0.0.5"
    port = 22
    user = "deploy-production"
    host_keys = ["ssh-ed25519 AAAA..."]
    source_address = "10.0.0.2"            # ours, as the target sees it

A path that begins with `$CREDENTIALS_DIRECTORY/` is a file of the directory that systemd makes of `LoadCredential=`.
The three vault logins come as wrapped single-use secrets at every start, one JSON line: the credential `logins`, where that directory has one,
else standard input. Nothing of them is stored.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gatekeeper.model.digest import Digest, digest_of
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.unfilled import sentence, unfilled
from gatekeeper.ports.registry import RegistryAddress
from gatekeeper.ports.target import TargetAddress
from gatekeeper.ports.tokenreview import ClusterAddress
from gatekeeper.tlog.errors import TlogError
from gatekeeper.tlog.logpolicy import LogPolicy, parse_log_policy
from gatekeeper.verify.twopeople import parse_people_keys

MAX_FILE: Final = 256 * 1024
LOGINS: Final = ("log", "decide", "act")
ALLOW_S: Final = 600
MIN_ALLOW_S: Final = 10
MAX_ALLOW_S: Final = 3600
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd names the directory of a unit's credentials (systemd.exec(5))."""
OBSERVE_S: Final = 60
MAX_PAST: Final = 64
"""keys of one use that were replaced"""


class BadSettings(ValueError):
    """The configuration cannot be used; the message names file and key and says what is wrong."""


@dataclass(frozen=True)
class Listen:
    """An address to listen on; with TLS where certificate and key are given."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    connections_per_address: int | None = None
    """None: as many as `api.admission` lets one address have"""


@dataclass(frozen=True)
class VaultSettings:
    """The vault and the public keys that are pinned of it."""

    url: str
    ca_file: Path
    log_vkey: str
    receipt_key: bytes
    key_version: int | None
    """None: the version at which the vault keeps the pinned key"""
    log_key_order: bytes | None = None
    """an order by two people to let another key follow"""
    receipt_key_order: bytes | None = None
    past_log_vkeys: tuple[str, ...] = ()
    past_receipt_keys: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class PolicySettings:
    """The policy repository and what is pinned of it."""

    remote: str
    branch: str
    root: str
    signers: Path
    refresh_s: int


@dataclass(frozen=True)
class WitnessSettings:
    """Who witnesses the log, as verifiers are told it, and what two operators ordered about it."""

    policy: LogPolicy
    digest: Digest
    """of the policy file's bytes"""
    ca_file: Path | None
    fail_open: bool
    order: bytes | None = field(repr=False)


@dataclass(frozen=True)
class TargetSettings:
    """A target: its address, its environment, and ours as it sees it."""

    address: TargetAddress
    environment: str
    source_address: str


@dataclass(frozen=True)
class Settings:
    """Everything one replica is told."""

    instance: str
    origin: str
    public_url: str
    state: Path
    allow_s: int
    public: Listen
    operator: Listen
    database_url: str = field(repr=False)
    vault: VaultSettings
    policy: PolicySettings
    artifacts: Path | RegistryAddress
    """a directory, or a registry; then files of a registry are kept under `state`"""
    max_blob: int
    targets: Mapping[str, TargetSettings]
    observe_s: int = OBSERVE_S
    """seconds between two questions to a target what it runs"""
    witnesses: WitnessSettings | None = None
    operator_keys: Mapping[str, tuple[bytes, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """the log's administrators by name, each with one or more Ed25519 keys; empty: nobody can order anything about the log"""
    issuer_ca_file: Path | None = None
    """CAs of the places where the keys of token issuers are fetched; None: the system's"""
    clusters: Mapping[str, ClusterAddress] = field(default_factory=lambda: MappingProxyType({}))
    """API servers that review tokens, by their issuers' names in the policy"""


@dataclass(frozen=True)
class VaultPlace:
    """An instance and its vault's address: what a supervisor is told."""

    instance: str
    url: str
    ca_file: Path


@dataclass(frozen=True)
class Wrapped:
    """A login as the supervisor hands it over."""

    role_id: str
    token: str = field(repr=False)


def read_settings(file: Path) -> Settings:
    """Read and check the configuration; raises `BadSettings`."""
    try:
        fields = _document(file)
        settings = _Reading(file.parent.resolve()).settings(fields)
        fields.done()
    except (tomllib.TOMLDecodeError, FieldError) as error:
        raise BadSettings(f"{file}: {error}") from error
    return settings


def parse_wrapped(line: bytes) -> Mapping[str, Wrapped]:
    """The supervisor's line: `{"log": {"role_id", "token"}, "decide": ..., "act": ...}`. Raises `BadSettings`; what it holds is not shown."""
    try:
        fields = Fields(parse_object(line, max_bytes=8192))
        found = {}
        for name in LOGINS:
            login = fields.nested(name)
            found[name] = Wrapped(login.text("role_id"), login.text("token", max_length=1024))
            login.done()
        fields.done()
    except (MalformedJson, FieldError):
        raise BadSettings("standard input must hold one JSON line with the wrapped logins log, decide and act, from the supervisor") from None
    return found


def credential(name: str) -> Path | None:
    """The file of a credential that the process was given (systemd.exec(5)), or None."""
    directory = os.environ.get(CREDENTIALS)
    file = None if not directory else Path(directory) / name
    return file if file is not None and file.exists() else None


def read_vault_place(file: Path) -> VaultPlace:
    """Instance, and where its vault is: all that a supervisor needs of the configuration. Raises `BadSettings`."""
    try:
        fields = _document(file)
        vault = fields.nested("vault")
        reading = _Reading(file.parent.resolve())
        return VaultPlace(fields.name("instance"), _https(vault, "url"), reading.path(vault, "ca_file"))
    except (tomllib.TOMLDecodeError, FieldError) as error:
        raise BadSettings(f"{file}: {error}") from error


class _Reading:
    def __init__(self, base: Path) -> None:
        self._base = base

    def settings(self, fields: Fields) -> Settings:
        database, artifacts = fields.nested("database"), fields.nested("artifacts")
        targets = fields.nested("targets")
        settings = Settings(
            instance=fields.name("instance"),
            origin=fields.text("origin", max_length=200),
            public_url=_https(fields, "public_url").rstrip("/"),
            state=self.path(fields, "state"),
            allow_s=fields.optional("allow_s", partial(fields.integer, minimum=MIN_ALLOW_S, maximum=MAX_ALLOW_S)) or ALLOW_S,
            public=self._listen(fields.nested("public"), tls=True),
            operator=self._listen(fields.nested("operator"), tls=False),
            database_url=self._secret(database, "url_file"),
            vault=self._vault(fields.nested("vault")),
            policy=self._policy(fields.nested("policy")),
            artifacts=self._registry(artifacts) if artifacts.has("registry") else self.path(artifacts, "directory"),
            max_blob=artifacts.integer("max_blob", minimum=1, maximum=8 * 1024**3),
            targets={name: self._target(name, targets.nested(name)) for name in targets.names()},
            observe_s=fields.optional("observe_s", partial(fields.integer, minimum=1, maximum=3600)) or OBSERVE_S,
            witnesses=self._witnesses(fields.nested("witnesses")) if fields.has("witnesses") else None,
            operator_keys=self._operators(fields.nested("operators")) if fields.has("operators") else MappingProxyType({}),
            issuer_ca_file=self._issuers(fields.nested("issuers")) if fields.has("issuers") else None,
            clusters=self._clusters(fields.nested("clusters")) if fields.has("clusters") else MappingProxyType({}),
        )
        database.done()
        artifacts.done()
        return settings

    def _listen(self, fields: Fields, *, tls: bool) -> Listen:
        listen = Listen(
            host=fields.text("host"),
            port=fields.integer("port", minimum=0, maximum=65535),
            certificate=self.path(fields, "certificate") if tls else None,
            key=self.path(fields, "key") if tls else None,
            connections_per_address=fields.optional("connections_per_address", lambda key: fields.integer(key, minimum=1, maximum=100_000)),
        )
        fields.done()
        return listen

    def _vault(self, fields: Fields) -> VaultSettings:
        vault = VaultSettings(
            url=_https(fields, "url"),
            ca_file=self.path(fields, "ca_file"),
            log_vkey=self._pinned(fields, "log_key").strip(),
            receipt_key=self._pinned(fields, "receipt_key").encode(),
            key_version=fields.optional("key_version", partial(fields.integer, minimum=1, maximum=10_000)),
            log_key_order=self._order(fields, "log_key_order"),
            receipt_key_order=self._order(fields, "receipt_key_order"),
            past_log_vkeys=tuple(text.strip() for text in self._past(fields, "past_log_keys")),
            past_receipt_keys=tuple(text.encode() for text in self._past(fields, "past_receipt_keys")),
        )
        fields.done()
        return vault

    def _policy(self, fields: Fields) -> PolicySettings:
        policy = PolicySettings(
            remote=fields.text("remote", max_length=1024),
            branch=fields.text("branch"),
            root=fields.commit("root"),
            signers=self.path(fields, "signers"),
            refresh_s=fields.integer("refresh_s", minimum=1, maximum=3600),
        )
        fields.done()
        return policy

    def _issuers(self, fields: Fields) -> Path | None:
        file = self.path(fields, "ca_file")
        fields.done()
        return file

    def _clusters(self, fields: Fields) -> Mapping[str, ClusterAddress]:
        return MappingProxyType({name: self._cluster(fields.nested(name)) for name in fields.names()})

    def _cluster(self, fields: Fields) -> ClusterAddress:
        self._secret(fields, "token_file")  # read anew at each question; here it is only shown to be there, and private
        cluster = ClusterAddress(_https(fields, "url").rstrip("/"), self.path(fields, "ca_file"), self.path(fields, "token_file"))
        fields.done()
        return cluster

    def _witnesses(self, fields: Fields) -> WitnessSettings:
        data = _text(self.path(fields, "policy")).encode()
        try:
            policy = parse_log_policy(data)
        except TlogError as error:
            raise fields.error("policy", str(error)) from None
        for witness in policy.witnesses:
            if witness.url is None or re.fullmatch(r"https://[^\s@?#]+", witness.url) is None:
                raise fields.error("policy", f"gives the witness {witness.name} no https:// URL: nobody could ask it")
        order = fields.optional("order", partial(self.path, fields))
        witnesses = WitnessSettings(
            policy=policy,
            digest=digest_of(data),
            ca_file=fields.optional("ca_file", partial(self.path, fields)),
            fail_open=bool(fields.optional("fail_open", fields.boolean)),
            order=None if order is None else _text(order).encode(),
        )
        fields.done()
        if witnesses.fail_open and witnesses.order is None:
            raise fields.error("fail_open", "needs the order of two operators in `order`: pingee log order new witnesses")
        return witnesses

    def _registry(self, fields: Fields) -> RegistryAddress:
        if fields.has("directory"):
            raise fields.error("registry", "stands beside `directory`: artifacts lie in one of them")
        username, password = (fields.optional(key, partial(self._secret, fields)) for key in ("username_file", "password_file"))
        if (username is None) != (password is None):
            raise fields.error("password_file", "and `username_file` belong together: give both or neither")
        if username == "" or password == "":
            raise fields.error("password_file", "and `username_file` must not be empty")
        hosts = {key: fields.optional(key, partial(fields.texts, max_items=10)) or () for key in ("token_hosts", "blob_hosts")}
        try:
            return RegistryAddress(
                url=_https(fields, "registry").rstrip("/"),
                repository=fields.text("repository"),
                ca_file=fields.optional("ca_file", partial(self.path, fields)),
                username=username or "",
                password=password or "",
                token_hosts=hosts["token_hosts"],
                blob_hosts=hosts["blob_hosts"],
            )
        except ValueError as error:
            if isinstance(error, FieldError):
                raise
            raise fields.error("registry", str(error)) from None

    def _operators(self, fields: Fields) -> Mapping[str, tuple[bytes, ...]]:
        file = self.path(fields, "keys")
        fields.done()
        try:
            return MappingProxyType(parse_people_keys(_text(file).encode(), file=file.name))
        except ValueError as error:
            raise fields.error("keys", str(error)) from None

    def _target(self, name: str, fields: Fields) -> TargetSettings:
        target = TargetSettings(
            address=TargetAddress(
                name=name,
                host=fields.text("host"),
                port=fields.integer("port", minimum=1, maximum=65535),
                user=fields.name("user"),
                host_keys=fields.texts("host_keys", max_items=10, max_length=1024),
            ),
            environment=fields.name("environment"),
            source_address=fields.text("source_address"),
        )
        fields.done()
        if not target.address.host_keys:
            raise fields.error("host_keys", "must pin at least one key: a target that anybody can play is no target")
        return target

    def path(self, fields: Fields, key: str) -> Path:
        """A path of the file: of a credential, or relative to the file."""
        text = fields.text(key, max_length=1024)
        if not text.startswith(f"${CREDENTIALS}/"):
            return self._base / text
        directory = os.environ.get(CREDENTIALS)
        if not directory:
            remedy = "start it by its unit, or set the variable to the directory that the unit's LoadCredential= names"
            raise fields.error(key, f"is a credential, and {CREDENTIALS} is not set: {remedy}")
        return Path(directory) / text.partition("/")[2]

    def _order(self, fields: Fields, key: str) -> bytes | None:
        return _text(self.path(fields, key)).encode() if fields.optional(key, fields.raw) is not None else None

    def _past(self, fields: Fields, key: str) -> list[str]:
        files = fields.optional(key, partial(fields.texts, max_items=MAX_PAST, max_length=1024)) or ()
        inner = Fields({str(number): file for number, file in enumerate(files)}, fields.at(key))
        return [self._pinned(inner, str(number)) for number in range(len(files))]

    def _pinned(self, fields: Fields, key: str) -> str:
        file = self.path(fields, key)
        if not file.is_file():
            raise fields.error(key, f"names {file}, which is not there: the bootstrap of the vault writes it, and it is copied from there")
        return _text(file)

    def _secret(self, fields: Fields, key: str) -> str:
        file = self.path(fields, key)
        if not file.is_file():
            raise fields.error(key, f"names {file}, which is not there: write the secret into it, mode 0600")
        return read_private(file).strip()


def read_private(file: Path) -> str:
    """The text of a file that nobody else can read; raises `BadSettings`.

    systemd gives a credential to the unit's user by an access control list, which shows as readable by the group.
    """
    text = _text(file)
    others = 0o037 if str(file.parent) == os.environ.get(CREDENTIALS) else 0o077
    if file.stat().st_mode & others:
        raise BadSettings(f"{file}: others can read it, and it may hold a password: chmod 600")
    return text


def _document(file: Path) -> Fields:
    text = _text(file)
    document = tomllib.loads(text)
    if places := unfilled(document, text):
        raise BadSettings(f"{file}: {sentence(places)}")
    return Fields(document)


def _https(fields: Fields, key: str) -> str:
    url = fields.text(key)
    if not url.startswith("https://"):
        raise fields.error(key, "must be an https URL")
    return url


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_FILE:
            raise BadSettings(f"{file}: more than {MAX_FILE} bytes")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadSettings(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadSettings(f"{file}: not UTF-8") from None
