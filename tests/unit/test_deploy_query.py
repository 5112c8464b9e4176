"""What is answered about an artifact to whoever may read it: nothing that a build wrote leads the gatekeeper anywhere."""

import pytest

from gatekeeper.deploy.intake import accept_statement
from gatekeeper.deploy.query import provenance
from tests.fakes import frames, signing
from tests.fakes.house import OLD_COMMIT, House, _verify_inline, anyio_backend, anyone  # noqa: F401

pytestmark = pytest.mark.anyio

ALL = frozenset({"manifest", "provenance", "test-result"})
MADE = frames.make_artifact("1")


@pytest.fixture
def house():
    return House()


async def test_the_repository_that_a_build_names_is_never_asked(house, monkeypatch):
    asked, real = [], house.review.revision

    async def revision(project, repository, commit):
        asked.append((project, repository))
        return await real(project, repository, commit)

    monkeypatch.setattr(house.review, "revision", revision)
    source = {"repository": "https://inside.example/secret.git", "commit": OLD_COMMIT, "tree": "2" * 40}
    bundle = house.ca.run(commit=OLD_COMMIT).sign(signing.manifest_statement(artifact=MADE.digest, source=source))
    await accept_statement(house.parts, house.run_caller(), bundle, kinds=ALL)
    shown = await provenance(house.parts, MADE.digest, anyone())
    assert shown["source"]["repository"] == "https://inside.example/secret.git"
    assert asked == [(signing.PROJECT, signing.REPOSITORY)]
