"""What `pingee doctor` says of a demo house: printed where a step failed, and by `pingee demo --doctor --dir DIR`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .steps import Stage
from .world import World


def diagnosis(world: World) -> str:
    """The doctor's findings for each instance, through the public command with the flags that this house needs. Never raises: it is a last word."""
    stage, vault = Stage(world), Path(world.directory) / "vault"
    found = []
    for instance in world.instances:
        flags = ["--operator", instance.operator_url]
        if (vault / "address").is_file():
            flags += ["--vault", (vault / "address").read_text().strip(), "--vault-ca-file", str(vault / "ca.pem")]
        try:
            done = stage.as_person("olga", instance, "doctor", *flags, code=None)
        except (OSError, subprocess.TimeoutExpired) as error:
            found.append(f"pingee doctor could not be asked about {instance.name}: {type(error).__name__}")
        else:
            found.append(f"pingee doctor, {instance.name}:\n{(done.out or done.err).rstrip()}")
    return "\n".join(found)
