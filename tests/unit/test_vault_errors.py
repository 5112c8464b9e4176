"""Attack matrix 136: what hvac and requests put into their exceptions (URL with userinfo, headers, the vault's answer) stays with them."""

from __future__ import annotations

import logging
import traceback

import hvac.exceptions
import pytest
import requests

from gatekeeper.adapters.vault import Connection, VaultAddress, VaultSession
from gatekeeper.ports.errors import PortError

TOKEN = "s.canary-token-0123456789"
SECRET = "canary-of-the-answer-0123456789"
URL = f"https://user:{TOKEN}@vault.example:8200/v1/kv/data/{SECRET}"


def vendor_errors():
    request = requests.Request("GET", URL, headers={"X-Vault-Token": TOKEN, "Authorization": f"Bearer {TOKEN}"}).prepare()
    response = requests.Response()
    response.status_code, response._content, response.url, response.request = 500, SECRET.encode(), URL, request
    told = {"message": f"{SECRET} at {URL}", "errors": [SECRET], "method": "get", "url": URL, "text": SECRET, "json": {"data": SECRET}}
    kinds = ("Forbidden", "Unauthorized", "InvalidRequest", "InvalidPath", "InternalServerError", "VaultDown", "RateLimitExceeded", "UnexpectedError")
    yield from (getattr(hvac.exceptions, kind)(**told) for kind in kinds)
    for kind in (requests.ConnectionError, requests.Timeout, requests.exceptions.SSLError, requests.exceptions.ContentDecodingError, requests.HTTPError):
        yield kind(f"cannot reach {URL}", request=request, response=response)
    yield requests.exceptions.JSONDecodeError(f"no JSON at {URL}", SECRET, 0)
    yield OSError(5, f"cannot read {URL}")


@pytest.fixture
def connection(tmp_path):
    (tmp_path / "ca.pem").write_text("")
    found = Connection(VaultAddress("https://vault.example:8200", tmp_path / "ca.pem"), TOKEN)
    yield found
    found.close()


def everything_told(error):
    """The error, and all that hangs on it, as any logger or crash reporter would print it."""
    texts, seen = [], set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        texts += [repr(error), str(error), repr(vars(error)), repr(error.args), *getattr(error, "__notes__", ())]
        texts += traceback.format_exception(error)
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


@pytest.mark.parametrize("vendor", list(vendor_errors()), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("verb", ["read", "write_data"])
def test_no_vendor_error_leaves_as_itself_as_cause_or_as_context(connection, monkeypatch, vendor, verb):
    def fail(*_arguments, **_options):
        raise vendor from KeyError(TOKEN)

    monkeypatch.setattr(connection._client, verb, fail)
    with pytest.raises(PortError) as caught:
        connection.read("kv/data/x") if verb == "read" else connection.write("kv/data/x", {"password": SECRET})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    told = everything_told(caught.value)
    assert TOKEN not in told
    assert SECRET not in told
    assert SECRET in everything_told(vendor), "the vendor's own error does tell"


async def test_nor_does_it_across_threads_and_into_the_log(connection, monkeypatch, caplog):
    def fail(*_arguments, **_options):
        raise hvac.exceptions.Forbidden(f"{SECRET} {URL}", [SECRET], url=URL, text=SECRET)

    monkeypatch.setattr(connection._client, "read", fail)
    session = VaultSession(connection, lease_s=60, name="test-act")
    told = ""
    with caplog.at_level(logging.DEBUG):
        try:
            await session.read("kv/data/x")
        except PortError as error:
            logging.getLogger("gatekeeper").exception("a bug that logs it")
            told = everything_told(error)
    assert "vault-denied" in told
    told += caplog.text
    assert TOKEN not in told
    assert SECRET not in told


def test_nothing_that_holds_the_token_shows_it(connection):
    session = VaultSession(connection, lease_s=60, name="test-act")
    assert TOKEN not in f"{connection!r} {connection._client!r} {session!r} {connection.address!r}"
