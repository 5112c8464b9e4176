"""What honest and dishonest hands do at a real vault, for the audit of its leases: each deed has a name, and what came of it is told."""

from contextlib import contextmanager

from gatekeeper.adapters.vault import Connection
from gatekeeper.model.digest import digest_of
from gatekeeper.model.lease import STATUS_COMMAND, forced_command, question_id
from gatekeeper.ports.errors import PortError
from tests.fakes.log_directory import ORIGIN
from tests.fakes.vault_requests import openssh

RECEIPT = digest_of(b"receipt")
TARGET, PRINCIPAL = "web1", "deploy-test"
OBSERVED, ADOPTED = question_id(ORIGIN, TARGET), "a" * 32
SETTINGS = "kv/data/test/config/test/hello"


class Hands:
    """Whoever holds the login `act` of instance `test`, and the root token beside it."""

    def __init__(self, house):
        self.house = house
        self.root = Connection(house.address, house.root)
        secret = house.secret("test-act")
        secret_id = Connection(house.address, secret.wrapping_token).write("sys/wrapping/unwrap")["data"]["secret_id"]
        login = Connection(house.address).write("auth/approle/login", {"role_id": secret.role_id, "secret_id": secret_id})
        self.act = Connection(house.address, login["auth"]["client_token"])
        self.serials = {}

    def token(self, **options):
        body = {"meta": {"receipt": RECEIPT.removeprefix("sha256:"), "target": TARGET}, "display_name": "deploy"}
        return self.act.write(f"auth/token/create/test-deploy-{TARGET}", body, **options)

    def child(self):
        return Connection(self.house.address, self.token()["auth"]["client_token"])

    def sign(self, name, child, *, role=TARGET, key_id="k", **options):
        body = {"public_key": openssh(), "valid_principals": PRINCIPAL, "key_id": key_id}
        if role == TARGET:
            body["critical_options"] = {"force-command": forced_command(RECEIPT), "source-address": "127.0.0.1/32"}
        answer = child.write(f"ssh-test/sign/{role}", body, **options)
        if answer["data"] is not None:
            self.serials[name] = int(answer["data"]["serial_number"], 16)

    def deploy(self, name):
        """As the gatekeeper does it."""
        child = self.child()
        self.sign(name, child, key_id=RECEIPT.removeprefix("sha256:"))
        child.read(SETTINGS)
        return child

    @contextmanager
    def hashed(self):
        """The mount as it was before the bootstrap had its certificates shown."""
        tune = self.root.read("sys/mounts/ssh-test/tune")["data"]["audit_non_hmac_response_keys"]
        self.root.write("sys/mounts/ssh-test/tune", {"audit_non_hmac_response_keys": [""]})
        try:
            yield
        finally:
            self.root.write("sys/mounts/ssh-test/tune", {"audit_non_hmac_response_keys": tune})

    @contextmanager
    def changed_role(self):
        """The status role as somebody with an admin's token could change it."""
        role = self.root.read(f"ssh-test/roles/{TARGET}.status")["data"]
        body = {key: value for key, value in role.items() if value not in (None, "", [], {})}
        self.root.write(f"ssh-test/roles/{TARGET}.status", body | {"default_critical_options": {"force-command": "sh"}})
        try:
            yield
        finally:
            assert role["default_critical_options"]["force-command"] == STATUS_COMMAND
            self.root.write(f"ssh-test/roles/{TARGET}.status", body)


def play(house):
    """All deeds in turn; gives the serial numbers by name."""
    hands = Hands(house)
    with hands.hashed():
        hands.deploy("hashed")
        hands.sign("hashed-status", hands.act, role=f"{TARGET}.status", key_id=OBSERVED)
    child = hands.deploy("honest")
    hands.sign("second-of-one-token", child)
    hands.sign("observing", hands.act, role=f"{TARGET}.status", key_id=OBSERVED)
    hands.sign("adopting", hands.act, role=f"{TARGET}.status", key_id=ADOPTED)
    hands.sign("stolen", hands.child(), key_id="thief")
    hands.sign("wrapped", hands.child(), wrap_ttl="60s")
    hands.token(wrap_ttl="60s")
    hands.token()
    hands.child().read(SETTINGS)
    hands.root.read(SETTINGS)
    answer = hands.root.write(f"ssh-test/issue/{TARGET}", {"key_type": "ed25519", "valid_principals": PRINCIPAL})
    hands.serials["issued-by-root"] = int(answer["data"]["serial_number"], 16)
    with hands.changed_role():
        hands.sign("changed-role", hands.act, role=f"{TARGET}.status", key_id=OBSERVED)
    for refused in (lambda: hands.act.write(f"ssh-test/sign/{TARGET}", {}), lambda: hands.act.read(SETTINGS)):
        try:
            refused()
        except PortError:
            continue
        raise AssertionError("the vault gave what it should refuse")
    return hands.serials
