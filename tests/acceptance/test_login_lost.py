"""A second replica of the demo's production loses one of its three logins for good: it stops in order, says which, and asks to be started anew."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from gatekeeper import bootstrap
from gatekeeper.adapters.vault import VaultAddress
from tests.fakes.shown_demo import ROOT

# Renews every half second, and revokes its own login `decide` first: what the vault then answers to the renewal is the vault's own word.
REPLICA = """
import sys
from gatekeeper import command
from gatekeeper.adapters import vault

vault._lease = lambda answer: 1.5
renew = vault.VaultSession.run

async def run(self, **status):
    if self._name.endswith("-decide"):
        await self.write("auth/token/revoke-self")
    await renew(self, **status)

vault.VaultSession.run = run
sys.exit(command.main(["serve", "--config", sys.argv[1]]))
"""


def test_a_replica_that_lost_a_login_stops_with_2_and_says_which(demo):
    production = demo.world.instance("production")
    directory = Path(demo.world.directory)
    config = Path(production.log_file).with_name("second.toml")
    listeners, database, rest = Path(production.log_file).with_name("gatekeeper.toml").read_text().partition("[database]")
    listeners = re.sub(r"^port = \d+$", "port = 0", listeners, flags=re.MULTILINE)
    config.write_text((listeners + database + rest).replace('state = "state"', 'state = "second"'))
    address = VaultAddress((directory / "vault" / "address").read_text().strip(), directory / "vault" / "ca.pem")
    supervisor = (directory / "operator" / "supervisor.token").read_text().strip()
    secrets = {name: bootstrap.mint_wrapped(address, supervisor, f"production-{name}") for name in ("log", "decide", "act")}
    line = json.dumps({name: {"role_id": secret.role_id, "token": secret.wrapping_token} for name, secret in secrets.items()})
    done = subprocess.run(
        [sys.executable, "-c", REPLICA, str(config)], cwd=ROOT, input=line + "\n", capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == "pingee-gatekeeper: login-lost: the vault no longer accepts the login decide: this replica stops, to be started with fresh secrets"
    # The one that serves is not disturbed.
    assert demo.stage.pingee(production, "log", "fsck").code == 0
