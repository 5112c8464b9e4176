"""One instance of the house: a gatekeeper, its environment, which has its name, and its one target. Where its files and addresses are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gatekeeper.adapters.vault import VaultAddress

from .layout import LayoutInstance
from .policy_repository import InstanceFacts, PolicyRepository
from .ports import HOST
from .world import InstanceWorld


@dataclass(frozen=True)
class InstancePlan:
    """What an instance is to be."""

    name: str
    stages: tuple[str, ...]
    """that its environment requires"""
    allow_s: int
    """seconds that an Allow lives"""
    second_mode: str = "enforce"
    """how the second project's component is guarded there"""
    witnessed: bool = False
    """whether its log is believed only with the cosignature of another team's witness"""


@dataclass(frozen=True)
class InstancePorts:
    """The ports of an instance."""

    public: int
    operator: int
    ssh: int
    workload: int
    second_workload: int
    witness: int


@dataclass(frozen=True)
class DemoInstance:
    """One instance in the house that stands in `house`."""

    plan: InstancePlan
    house: Path
    ports: InstancePorts
    canary: str = field(repr=False)
    """a secret of its workload, looked for everywhere else"""

    @property
    def name(self) -> str:
        """Name of the instance and of its environment."""
        return self.plan.name

    @property
    def target(self) -> str:
        """Name of its target."""
        return f"{self.name}-1"

    @property
    def account(self) -> str:
        """The target's account, and the principal of a certificate for it."""
        return f"deploy-{self.name}"

    @property
    def origin(self) -> str:
        """Origin line of its log."""
        return f"{self.name}.demo/log/{datetime.now(UTC).year}"

    @property
    def folder(self) -> Path:
        """The gatekeeper's directory."""
        return self.house / "instances" / self.name

    @property
    def home(self) -> Path:
        """The target's directory."""
        return self.house / "targets" / self.name

    @property
    def witness_home(self) -> Path:
        """The directory of another team's machine, on which the witness of its log runs."""
        return self.house / "witnesses" / self.name

    @property
    def witness_url(self) -> str:
        """Where that witness takes checkpoints."""
        return f"https://{HOST}:{self.ports.witness}"

    @property
    def configuration_file(self) -> Path:
        """What the gatekeeper reads."""
        return self.folder / "gatekeeper.toml"

    @property
    def log_file(self) -> Path:
        """What the gatekeeper says."""
        return self.folder / "gatekeeper.log"

    @property
    def pid_file(self) -> Path:
        """Process id of the gatekeeper that runs."""
        return self.folder / "gatekeeper.pid"

    @property
    def database_url_file(self) -> Path:
        """0600: it holds a password."""
        return self.house / "operator" / f"{self.name}.database-url"

    @property
    def operator_url(self) -> str:
        """Of livez, readyz and metrics."""
        return f"http://{HOST}:{self.ports.operator}"

    def layout(self) -> LayoutInstance:
        """What the vault is to hold for it."""
        return LayoutInstance(
            name=self.name, origin=self.origin, target=self.target, account=self.account, source_address=HOST, canary=self.canary
        )

    def facts(self) -> InstanceFacts:
        """What its branch of the policy says."""
        return InstanceFacts(self.name, self.target, self.plan.stages, self.plan.second_mode)

    def world(self) -> InstanceWorld:
        """What the steps are told of it."""
        return InstanceWorld(
            name=self.name,
            url=f"https://{HOST}:{self.ports.public}",
            operator_url=self.operator_url,
            ca_file=str(self.folder / "tls" / "ca.pem"),
            log_policy=str(self.folder / "log-policy"),
            origin=self.origin,
            target=self.target,
            workload_url=f"http://{HOST}:{self.ports.workload}",
            second_url=f"http://{HOST}:{self.ports.second_workload}",
            database_url_file=str(self.database_url_file),
            artifacts=str(self.folder / "artifacts"),
            log_file=str(self.log_file),
            pid_file=str(self.pid_file),
        )

    def configuration(self, vault: VaultAddress, policy: PolicyRepository, *, host_key: str) -> str:
        """Text of the gatekeeper's configuration file."""
        return f"""\
instance = "{self.name}"
origin = "{self.origin}"
public_url = "https://{HOST}:{self.ports.public}"
state = "state"
allow_s = {self.plan.allow_s}
observe_s = 30

[public]
host = "{HOST}"
port = {self.ports.public}
certificate = "tls/tls.pem"
key = "tls/tls.key"

[operator]
host = "{HOST}"
port = {self.ports.operator}

[database]
url_file = "{self.database_url_file}"

[vault]
url = "{vault.url}"
ca_file = "{vault.ca_file}"
log_key = "log.vkey"
receipt_key = "receipt.pem"
key_version = 1

[policy]
remote = "{policy.remote.as_uri()}"
branch = "{self.name}"
root = "{policy.roots[self.name]}"
signers = "{policy.signers}"
refresh_s = 2

[artifacts]
directory = "artifacts"
max_blob = 536870912

[targets.{self.target}]
environment = "{self.name}"
host = "{HOST}"
port = {self.ports.ssh}
user = "{self.account}"
host_keys = ["{host_key}"]
source_address = "{HOST}"
{self._witnesses()}"""

    def _witnesses(self) -> str:
        if not self.plan.witnessed:
            return ""
        return f"""
[witnesses]
policy = "log-policy"
ca_file = "{self.witness_home / "tls" / "ca.pem"}"
"""
