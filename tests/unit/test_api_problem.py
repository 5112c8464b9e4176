"""The one table of error codes: every code has a row, a sensible status, and a document of the promised form."""

from __future__ import annotations

import json

import pytest

from gatekeeper.api import problem
from gatekeeper.api.problem import CODES, CONSTANT, ApiError, FieldProblem, code_of_status, describe_code, encode_problem, problem_headers
from gatekeeper.model.reason import REASONS, Effect

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "ping_id", "receipt_id", "errors", "retryable", "request_id"}


def test_every_reason_has_a_row_and_an_error_status():
    assert set(REASONS) <= set(CODES)
    assert all(400 <= row.status < 600 and row.title for row in CODES.values())


def test_who_is_away_is_503_and_who_refuses_is_not():
    for reason in REASONS.values():
        if reason.effects == {Effect.IND}:
            assert (CODES[reason.code].status, CODES[reason.code].retryable) == (503, True), reason.code
        if reason.effects == {Effect.DENY}:
            assert (CODES[reason.code].status, CODES[reason.code].retryable) == (422, False), reason.code


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ping-malformed", 400),
        ("unauthenticated", 401),
        ("not-authorised", 403),
        ("not-found", 404),
        ("unknown-manifest", 404),
        ("idempotency-conflict", 409),
        ("quota-exceeded", 413),
        ("bad-signature", 422),
        ("rate-limited", 429),
        ("log-unavailable", 503),
    ],
)
def test_statuses_that_are_promised(code, status):
    assert ApiError(code).status == status


def test_every_call_code_was_given_its_status_by_hand():
    called = {code for code, reason in REASONS.items() if Effect.CALL in reason.effects}
    assert called <= set(problem._CALL_STATUS)


def test_the_document_has_the_promised_members():
    error = ApiError("ping-malformed", "Say what to deploy.", errors=[FieldProblem("/artifact", "is missing")], ping_id="p")
    document = json.loads(encode_problem(error, instance="/v1/pings", request_id="r"))
    assert set(document) == MEMBERS
    assert (document["instance"], document["request_id"], document["ping_id"], document["receipt_id"]) == ("/v1/pings", "r", "p", None)
    assert document["errors"] == [{"pointer": "/artifact", "detail": "is missing"}]


@pytest.mark.parametrize("code", sorted(CONSTANT))
def test_what_may_not_be_seen_answers_the_same_bytes_whatever_is_said(code):
    said = ApiError(code, "it exists, but is embargoed", errors=[FieldProblem("/x", "y")], ping_id="p", receipt_id="r")
    assert encode_problem(said, instance="/a", request_id="1") == encode_problem(ApiError(code), instance="/b", request_id="2")


def test_an_unknown_code_is_a_bug():
    with pytest.raises(KeyError):
        ApiError("no-such-code")


def test_headers_follow_the_status():
    assert dict(problem_headers(ApiError("unauthenticated")))["www-authenticate"] == "Bearer"
    assert dict(problem_headers(ApiError("unavailable", retry_after=3)))["retry-after"] == "3"
    assert "retry-after" not in dict(problem_headers(ApiError("unavailable")))


def test_bare_statuses_find_a_code_of_that_status():
    for status in (400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 431, 500, 503):
        assert CODES[code_of_status(status)].status == status
    assert code_of_status(418) == "bad-request"
    assert code_of_status(599) == "internal"


def test_codes_are_described_for_people():
    assert describe_code("nothing") is None
    for code in CODES:
        described = describe_code(code)
        assert described is not None
        assert described["code"] == code
        assert described["effects"]
