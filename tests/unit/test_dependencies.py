"""What Pingee stands on: free, locked by hash, explained in the README, and nobody's copy in our tree (FREESOFTWARE, MAINTAINED)."""

import email.message
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")

# Licences that the Open Source Initiative approved, as the metadata of our dependencies spells them.
OSI = re.compile(
    r"\b(MIT|MIT-0|Apache-2\.0|Apache 2\.0|Apache Software License|BSD-[23]-Clause|BSD License|MIT License|MPL-2\.0|MPL 2\.0|PSF-2\.0|ISC|PostgreSQL"
    r"|EPL-2\.0|L?GPL-2\.0-or-later|Unlicense)\b"
)


def locked(lock: str) -> list[Requirement]:
    lines = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return [Requirement(re.split(r"\s+--hash=", line)[0]) for line in lines]


def direct() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"]]


def installed(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


RUNTIME = sorted({canonicalize_name(requirement.name) for requirement in locked("requirements.txt") if installed(requirement)})


def licences(name: str) -> str:
    if name == "sigstore-models":
        # Its metadata names no licence; the file that it ships does.
        (file,) = (path for path in importlib.metadata.files(name) or [] if path.name == "LICENSE")
        return file.read_text(encoding="utf-8").split("\n")[0]
    metadata = importlib.metadata.metadata(name)
    classifiers = [text for text in metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    # Some write the whole text into License: its first line is the name, and nothing is to be found by chance in the rest.
    stated = [(text or "").strip().split("\n")[0] for text in metadata.get_all("License") or []]
    return " / ".join([*(metadata.get_all("License-Expression") or []), *stated, *classifiers])


@pytest.mark.parametrize("name", RUNTIME)
def test_every_runtime_dependency_has_a_free_licence(name):
    assert OSI.search(licences(name)), f"{name}: {licences(name)!r} names no licence that we know to be free"


def test_the_project_ships_its_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("requirement", direct(), ids=str)
def test_every_direct_dependency_is_locked_and_explained(requirement):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    name = canonicalize_name(requirement.name)
    pins = [pin for pin in locked("requirements.txt") if canonicalize_name(pin.name) == name]
    assert pins, f"{name} is not in the lock: make lock"
    versions = [str(pin.specifier).removeprefix("==") for pin in pins]
    assert any(requirement.specifier.contains(version) for version in versions), f"{name}: the lock is older than pyproject.toml"
    reason = re.search(rf"^\| `{re.escape(requirement.name)}` \| (\S[^|]{{15,}}) \|$", readme, flags=re.MULTILINE)
    assert reason, f"the README's table gives no reason for {requirement.name}"


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_locked_is_a_release_named_by_hash(lock):
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", "")
    for line in text.splitlines():
        requirement = Requirement(re.split(r"\s+--hash=", line)[0])
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        assert requirement.url is None, line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), f"{requirement.name} has no hash"


def test_nothing_is_vendored():
    copies = [path for path in ROOT.glob("*/**/*") if path.is_dir() and path.name in {"vendor", "_vendor", "third_party", "vendored"}]
    assert [path for path in copies if not path.relative_to(ROOT).parts[0].startswith(".")] == []


def test_a_text_in_the_licence_field_is_not_searched_beyond_its_first_line(monkeypatch):
    metadata = email.message.Message()
    metadata["License"] = "All rights reserved\nnot MIT"
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _name: metadata)
    assert not OSI.search(licences("anything"))
