"""`pingee-gatekeeper logins`: what supervises a replica mints its three wrapped single-use logins, or prolongs its own token. Blocking throughout.

The token of the role `supervisor` can do nothing else in the vault. It is read from a file that nobody else reads: the credential
`supervisor.token` of a systemd unit, or the one named.
"""

from __future__ import annotations

import json
from pathlib import Path

from gatekeeper.adapters.vault import VaultAddress
from gatekeeper.bootstrap import mint_wrapped, renew_supervisor
from gatekeeper.exits import Exit, Failure
from gatekeeper.ports.errors import Denied, Rejected
from gatekeeper.settings import LOGINS, credential, read_private, read_vault_place


def mint_logins(config: Path, token_file: Path | None) -> str:
    """The line that `serve` reads. The supervisor's token is prolonged on the way. Raises `BadSettings`, `Failure` and `PortError`."""
    place = read_vault_place(config)
    address, token = VaultAddress(place.url, place.ca_file), _token(token_file)
    found = {}
    for login in LOGINS:
        role = f"{place.instance}-{login}"
        try:
            secret = mint_wrapped(address, token, role)
        except (Denied, Rejected):
            sentence = (
                f"the vault gives no login of the role {role}: the supervisor's token has ended, or the role is missing (bootstrap --plan says so)"
            )
            raise Failure(Exit.LOGIN, sentence) from None
        found[login] = {"role_id": secret.role_id, "token": secret.wrapping_token}
    return json.dumps(found)


def renew(config: Path, token_file: Path | None) -> float:
    """Prolong the supervisor's token; its life in seconds. Raises as `mint_logins` does."""
    place = read_vault_place(config)
    try:
        return renew_supervisor(VaultAddress(place.url, place.ca_file), _token(token_file))
    except (Denied, Rejected):
        raise Failure(Exit.LOGIN, "the vault no longer accepts the supervisor's token: run the bootstrap again with a root token") from None


def _token(token_file: Path | None) -> str:
    file = token_file or credential("supervisor.token")
    if file is None:
        raise Failure(Exit.LOGIN, "no supervisor's token: name its file with --token-file, or give the unit LoadCredential=supervisor.token:FILE")
    return read_private(file).strip()
