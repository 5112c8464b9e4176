"""What is answered about an artifact to whoever may read it: nothing that a build wrote leads the gatekeeper anywhere."""

from dataclasses import replace

import pytest

from gatekeeper.deploy import signers
from gatekeeper.deploy.intake import accept_blob, accept_statement
from gatekeeper.deploy.query import build_log, provenance
from gatekeeper.model.digest import digest_of
from tests.fakes import frames, signing
from tests.fakes.house import OLD_COMMIT, House, _verify_inline, anyio_backend, anyone  # noqa: F401
from tests.fakes.public_keys import Counted

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


def statuses(shown):
    return [statement["status"] for statement in shown["statements"]]


async def test_whoever_asks_again_makes_the_gatekeeper_verify_nothing_again(house):
    artifact = await house.bring()
    with Counted().here() as first:
        assert statuses(await provenance(house.parts, artifact, anyone())) == ["verified"] * 3
    assert first.total > 0
    with Counted().here() as again:
        assert statuses(await provenance(house.parts, artifact, anyone())) == ["verified"] * 3
        await build_log(house.parts, artifact, anyone())
    assert again.total == 0
    for key, row in list(house.database.state.statements.items()):
        house.database.state.statements[key] = replace(row, bundle=row.bundle[:-1] + b" }")
    assert statuses(await provenance(house.parts, artifact, anyone())) == ["refused: bad-signature"] * 3


async def chunks(data):
    yield data


async def test_an_upload_verifies_in_the_one_thread_and_is_not_refused_for_a_statement_that_no_longer_parses(house, monkeypatch):
    run, inside, real = house.ca.run(commit=OLD_COMMIT), [], signers.verify_submission
    source = {"repository": signing.REPOSITORY, "commit": OLD_COMMIT, "tree": "2" * 40}
    for payload in (signing.manifest_statement(artifact=MADE.digest, source=source), signing.provenance_statement(artifact=MADE.digest, commit=OLD_COMMIT)):
        await accept_statement(house.parts, house.run_caller(), run.sign(payload), kinds=ALL)

    class Facts(type(house.parts.facts)):
        async def in_thread(self, function):
            inside.append(True)
            try:
                return function()
            finally:
                inside.pop()

    def verify(*args, **names):
        assert inside, "verified on the event loop"
        return real(*args, **names)

    monkeypatch.setattr(signers, "verify_submission", verify)
    parts = replace(house.parts, facts=Facts())
    await accept_blob(parts, house.run_caller(), MADE.digest, digest_of(b"log"), chunks(b"log"), max_bytes=10)
    for key, row in list(house.database.state.statements.items()):
        house.database.state.statements[key] = replace(row, bundle=b"{", digest=digest_of(b"{"))
    await accept_blob(parts, house.run_caller(), MADE.digest, MADE.digest, chunks(MADE.manifest), max_bytes=10**6)
    assert await house.parts.artifacts.size(MADE.digest) == len(MADE.manifest)
