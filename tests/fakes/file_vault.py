"""The log's vault as files that outlive whoever used them: what one process signed and kept, the next one finds."""

import fcntl
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.ports.vault import CasMismatch, HeadRecord


class FileVault:
    """`ports.vault.LogVault` over a directory; several processes may use it at once."""

    def __init__(self, directory):
        self._directory = directory
        directory.mkdir(exist_ok=True)
        with self._locked():
            if not (directory / "key").exists():
                (directory / "key").write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
        self.key = Ed25519PrivateKey.from_private_bytes((directory / "key").read_bytes())

    @contextmanager
    def _locked(self):
        with (self._directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    def signed(self):
        """Every text that the key ever signed."""
        path = self._directory / "signed"
        return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []

    @property
    def head(self):
        path = self._directory / "head"
        if not path.exists():
            return None
        version, edge, note = path.read_bytes().split(b"\n", 2)
        return HeadRecord(note, int(version), bytes.fromhex(edge.decode()))

    async def public_key(self):
        return self.key.public_key().public_bytes_raw()

    async def sign(self, note_text):
        with (self._directory / "signed").open("a") as file:
            file.write(note_text.hex() + "\n")
        return self.key.sign(note_text)

    async def read_head(self):
        with self._locked():
            return self.head

    async def write_head(self, note, *, cas, edge=b""):
        with self._locked():
            version = self.head.version if self.head else 0
            if cas != version:
                raise CasMismatch("cas-mismatch", "another version stands there")
            new = self._directory / "head.new"
            new.write_bytes(b"%d\n%s\n" % (version + 1, edge.hex().encode()) + note)
            new.replace(self._directory / "head")
        return version + 1
