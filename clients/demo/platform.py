"""The demo's CI platform: an issuer of its own with a pinned key set, and one token for each audience of a run.

What GitLab's `id_tokens` are elsewhere. The private key lies in the platform's directory (0600); builders and gatekeepers never see it.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from joserfc import jwt
from joserfc.jwk import ECKey

ISSUER: Final = "https://ci.demo"
BUILDER_ID: Final = "https://ci.demo/builder"
TOKEN_S: Final = 600


@dataclass(frozen=True)
class Run:
    """One run of a project's pipeline, caused by somebody."""

    project: str
    commit: str
    ref: str
    actor: str
    id: str


class Platform:
    """Issues tokens for runs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file = directory / "issuer.key"
        if not key_file.exists():
            key = ECKey.generate_key("P-256", {"kid": secrets.token_hex(8), "alg": "ES256", "use": "sig"})
            with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(key.as_dict(private=True), file)
        self._key = ECKey.import_key(json.loads(key_file.read_text()))

    @property
    def jwks(self) -> str:
        """The key set that policies pin."""
        return json.dumps({"keys": [self._key.as_dict(private=False)]}, indent=1, sort_keys=True) + "\n"

    @property
    def public_key_pem(self) -> str:
        """The public key as the vault's JWT method takes it."""
        return self._key.as_pem(private=False).decode()

    def start_run(self, *, project: str, commit: str, ref: str, actor: str) -> Run:
        """A new run with an id of its own."""
        return Run(project, commit, ref, actor, secrets.token_hex(6))

    def token(self, run: Run, audience: str, *, life_s: int = TOKEN_S) -> str:
        """A token of a run for one audience; a negative life makes one that has expired."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": f"project:{run.project}:ref:{run.ref}",
            "aud": audience,
            "iat": min(now, now + life_s - 1),
            "nbf": min(now, now + life_s - 1),
            "exp": now + life_s,
            "jti": secrets.token_hex(16),
            "project": run.project,
            "project_id": "1",
            "commit": run.commit,
            "ref": run.ref,
            "run": run.id,
            "actor": run.actor,
            "builder_id": BUILDER_ID,
        }
        return jwt.encode({"alg": "ES256", "kid": self._key.kid}, claims, self._key)
