"""What Zuul's REST API says of a token's build: which commit it is for, and every answer that names none or is not the token's."""

import json

import pytest

from gatekeeper.model.fields import FieldError
from gatekeeper.model.strictjson import MalformedJson
from gatekeeper.verify.platform import NotAdmitted
from gatekeeper.verify.token import Unauthenticated
from gatekeeper.verify.zuulbuild import MAX_BUILD, build_url, read_build
from tests.fakes.platforms import SHA, ZUUL_BUILD, changed, own_issuer, platform, verify, zuul_build

PLATFORM = platform("zuul", builds_url="https://zuul.example.com", unbound=False)


def caller(change=None):
    return verify(changed("zuul", change), own_issuer("zuul", builds_url="https://zuul.example.com", unbound=False))


def read(answer, of=PLATFORM):
    return read_build(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), caller(), of)


def test_the_build_is_asked_for_by_tenant_and_uuid():
    assert build_url(caller(), PLATFORM) == f"https://zuul.example.com/api/tenant/example-tenant/build/{ZUUL_BUILD}"


@pytest.mark.parametrize("flat", [False, True], ids=["under ref", "flat"])
def test_the_commit_and_ref_of_a_branch_or_tag_that_moved(flat):
    found = read(zuul_build(flat=flat))
    assert (found.commit, found.ref, found.project, found.run) == (SHA, "refs/heads/main", "hello", ZUUL_BUILD)
    assert read(zuul_build(flat=flat, ref="refs/tags/v1")).ref == "refs/tags/v1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"job_name": "hello-test"}, "runs another job"),
        ({"pipeline": "check"}, "or in another pipeline"),
        ({"project": "group/other"}, "for another project"),
        ({"project": "opendev.example.org/group/hello"}, "for another project"),
        ({"project": "hello"}, "for another project"),
        ({"result": "SUCCESS", "duration": 12.5}, "build is over"),
        ({"result": "ABORTED"}, "build is over"),
        ({"newrev": None}, "names no commit"),
        ({"change": 12, "patchset": "3", "ref": "refs/changes/12/12/3"}, "names no commit"),
        ({"newrev": "0" * 40}, "a ref that was deleted"),
    ],
)
def test_a_build_that_is_not_the_tokens_is_over_or_names_no_commit(changes, words):
    for flat in (False, True):
        with pytest.raises(NotAdmitted, match=words):
            read(zuul_build(flat=flat, **changes))


def test_a_change_under_review_may_ping_where_the_policy_says_so_and_has_no_commit():
    unbound = platform("zuul", builds_url="https://zuul.example.com", unbound=True)
    assert read(zuul_build(change=12, newrev=SHA), unbound).commit == ""
    assert read(zuul_build(newrev=None), unbound).commit == ""


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (zuul_build(uuid="8f3c1f0f5c2f4c0e9d6a7b2f6a1d2e3d"), FieldError, "/uuid: is another build's"),
        (zuul_build(newrev=SHA[:12]), FieldError, "newrev: must be a full"),
        (zuul_build(newrev="main"), FieldError, "newrev: must be a full"),
        (zuul_build(ref="refs/changes/1/1/1"), FieldError, "is no branch and no tag"),
        (zuul_build(ref="main"), FieldError, "is no branch and no tag"),
        (zuul_build(ref=None), FieldError, "ref: must be a string"),
        (zuul_build(project=None), FieldError, "project: must be a string"),
        ({}, FieldError, "is missing"),
        ([zuul_build()], MalformedJson, "not an object"),
        (b"<html>", MalformedJson, "Expecting value"),
        (b'{"uuid": 1, "uuid": 2}', MalformedJson, "stands twice"),
        (json.dumps(zuul_build()).encode().ljust(MAX_BUILD + 1), MalformedJson, "more than"),
    ],
)
def test_an_answer_of_another_form(answer, error, words):
    with pytest.raises(error, match=words):
        read(answer)


def test_a_token_without_the_lookup_names_no_commit():
    with pytest.raises(NotAdmitted, match="names no commit"):
        verify(changed("zuul"), own_issuer("zuul", unbound=False))
    assert caller().commit == ""
    with pytest.raises(Unauthenticated, match="is not of the form"):
        caller(lambda claims: claims.update({"build-uuid": "../../../tenants"}))
