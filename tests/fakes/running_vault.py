"""One real OpenBao for a test module, in its own thread-free process: `running_vault()` starts, bootstraps, and stops it."""

import contextlib
import time
from dataclasses import dataclass, replace

from clients.demo import openbao
from gatekeeper import bootstrap
from tests.fakes.vault_house import CiPlatform, make_layout


@dataclass
class House:
    """A bootstrapped vault. `root` is alive only if it was asked to be."""

    bao: object
    platform: CiPlatform
    layout: object
    public: object
    supervisor: str
    root: str
    directory: object

    @property
    def address(self):
        return self.bao.address

    def secret(self, role):
        return bootstrap.mint_wrapped(self.address, self.supervisor, role)


@contextlib.contextmanager
def running_vault(directory, *, keep_root=False, foreign=()):
    import trio

    bao = trio.run(openbao.start, directory / "vault")
    try:
        secrets = bootstrap.initialise(bao.address)
        until = time.monotonic() + 60
        while bootstrap.vault_state(bao.address) is not bootstrap.VaultState.READY:
            assert time.monotonic() < until
            time.sleep(0.05)
        platform = CiPlatform()
        layout = replace(make_layout(platform, bao.address.url), foreign=tuple(foreign))
        operator = directory / "operator"
        if keep_root:
            bootstrap.apply(bao.address, secrets.root_token, bootstrap.plan(bao.address, secrets.root_token, layout))
            public = bootstrap.read_public(bao.address, secrets.root_token, layout)
            supervisor = bootstrap.make_supervisor(bao.address, secrets.root_token)
        else:
            public = bootstrap.bootstrap(bao.address, secrets, layout, operator)
            supervisor = (operator / "supervisor.token").read_text()
        yield House(bao, platform, layout, public, supervisor, secrets.root_token, operator)
    finally:
        trio.run(openbao.stop, bao)
