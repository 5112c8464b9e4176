"""Attack matrix 112 and 113: names and texts of callers in documents, pages, metrics, log lines and terminals; no text becomes more than a text."""

from __future__ import annotations

import io
import json
import logging
import re
from dataclasses import replace

import pytest

from clients.cli.output import print_json, print_pairs, print_table, safe
from clients.cli.output import say as say_on_stderr
from gatekeeper.command import _PlainLines
from gatekeeper.model.ping import State
from gatekeeper.model.reason import REASONS
from tests.fakes import signing
from tests.fakes.api import CI, running_api
from tests.fakes.house import COMPONENT, ENVIRONMENT, INSTANCE

pytestmark = pytest.mark.anyio

NAMES = {
    "CR LF": "a\r\nset-cookie: evil=1",
    "a line that looks like ours": "a\n2026-11-21 10:00:00,000 CRITICAL gatekeeper all is well",
    "ANSI": "a\x1b[2J\x1b[31mdeployed",
    "an OSC": "a\x1b]0;title\x07",
    "C1": "a\x9b2J",
    "backspaces": "a\b\b\bb",
    "right to left": "a\u202egnp.exe",
    "isolates": "a\u2066b\u2069",
    "a line separator": "a\u2028b",
    "NUL": "a\0b",
}
HARMLESS = {
    "JSON": '"},"code":"deployed","x":{"',
    "markup": "<script>alert(1)</script>",
    "an entity": "&lt;&#x3c;",
    "a template": "{{7*7}}{% raw %}",
    "a format": "%s%n{0.__class__}",
    "Arabic": "سبب",
    "an emoji of several": "👩‍💻",
}


@pytest.fixture
async def api():
    async with running_api() as found:
        yield found


async def wanted(api, **changes):
    return {"environment": ENVIRONMENT, "component": COMPONENT, "artifact": await api.house.bring(), **changes}


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_moves_a_cursor_is_refused_wherever_it_stands(api, name):
    text, token = NAMES[name], api.token()
    good = await wanted(api)
    for member in ("environment", "component", "artifact", "config", "reason", "deadline"):
        problem = (await api.post("/v1/pings", token, {**good, member: text})).refused(400, "ping-malformed")
        assert problem["errors"][0]["pointer"] == f"/{member}"
        assert text not in json.dumps(problem, ensure_ascii=False), "the value is not said again"
    unknown = await api.post("/v1/pings", token, {**good, text: 1})
    found = unknown.refused(400, "ping-malformed")["errors"][0]["pointer"]
    assert found == "/" + text[:64].replace("~", "~0").replace("/", "~1")
    assert b"\n" not in unknown.body
    assert b"\x1b" not in unknown.body
    made = (await api.post("/v1/pings", token, good)).json["id"]
    (await api.post(f"/v1/pings/{made}/cancellation", token, {"reason": text})).refused(400, "ping-malformed")
    now = int(api.house.clock().timestamp())
    for claim in ("ref", "project", "run", "actor", "sub", "jti"):
        odd = CI.token(signing.run_claims(now, **{"aud": f"pingee:{INSTANCE}", claim: text}))
        problem = (await api.get("/v1/whoami", odd)).refused(401, "unauthenticated")
        assert f"/{claim}: holds a control character" in problem["detail"]


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_text_that_only_looks_like_code_stays_a_text(api, name):
    text, token = HARMLESS[name], api.token()
    made = (await api.post("/v1/pings", token, await wanted(api, reason=text), key=name.replace(" ", "-"))).json["id"]
    done = await api.post(f"/v1/pings/{made}/cancellation", token, {"reason": text})
    assert (done.status, done.json["detail"]) == (202, text)
    assert (await api.get(f"/v1/pings/{made}", token)).json["state"] == "cancelled"
    page = (await api.get(f"/pings/{made}")).body.decode()
    assert "<script>" not in page
    assert "deployed" not in re.sub(r"<title>.*?</title>", "", page) or name == "JSON"
    assert ">49<" not in page
    assert text in page or name in ("JSON", "markup", "an entity")


async def test_a_text_that_got_past_every_door_is_still_harmless_on_a_page(api):
    """A row that somebody else wrote: pages do not rely on the doors."""
    made = (await api.post("/v1/pings", api.token(), await wanted(api))).json["id"]
    row = api.house.database.state.rows[made]
    for text in (*NAMES.values(), *HARMLESS.values()):
        row.ping = replace(row.ping, detail=text, state=State.DENIED)
        answer = await api.get(f"/pings/{made}")
        assert answer.status == 200
        assert "set-cookie" not in answer.headers
        assert b"<script>" not in answer.body
        document = await api.get(f"/v1/pings/{made}")
        assert document.json["detail"] == text, "a document says what is stored, as a JSON string"
        assert not {b"\n", b"\r", b"\x1b", b"\0"} & {bytes([byte]) for byte in document.body}


def lines(record):
    return _PlainLines("%(asctime)s %(levelname)s %(name)s %(message)s").format(record).split("\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_log_line_is_one_line_and_moves_no_cursor(name, capsys):
    record = logging.LogRecord("gatekeeper", logging.WARNING, __file__, 1, "ping %s waits: %s", ("1", NAMES[name]), None)
    first, *rest = lines(record)
    assert " WARNING gatekeeper ping 1 waits: a" in first
    assert all(line.startswith("\t") for line in rest), "what follows never looks like a line of ours"
    assert all(c.isprintable() or c == "\t" for line in (first, *rest) for c in line)
    # the terminal of a person
    assert safe(NAMES[name]).isprintable()
    say_on_stderr(NAMES[name])
    print_pairs({NAMES[name]: NAMES[name]})
    print_table([ "NAME"], [[NAMES[name]]])
    print_json({"name": NAMES[name]})
    shown = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in shown.out + shown.err)


def test_the_log_of_the_server_is_written_that_way(monkeypatch):
    from gatekeeper import command

    root, said = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setattr(command, "read_settings", lambda _: (_ for _ in ()).throw(command.BadSettings("stop")))
    try:
        with pytest.raises(command.BadSettings):
            command._serve(type("Asked", (), {"config": None})())
        logging.getLogger("gatekeeper").warning("x%s", "\x1b[2J\nforged")
        assert said.getvalue().splitlines()[-1] == "\tforged"
        assert "\\x1b[2J" in said.getvalue()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


# 112


async def test_callers_make_no_label_of_a_metric(api):
    """As many texts as you like: label values are environments of the policy, states and reason codes, and nothing else."""
    labels = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
    token, good = api.token(), await wanted(api)
    made = (await api.post("/v1/pings", token, good)).json["id"]
    rows = api.house.database.state.rows
    template = rows[made]
    for number in range(2000):
        ping = replace(template.ping, new=replace(template.ping.new, id=f"{number:032x}", reason=f"r{number}", component=f"c{number}", commit=f"{number:040x}"))
        rows[ping.id] = replace(template, ping=replace(ping, detail=f"d{number}"))
    for number in range(100):
        await api.get(f"/v1/pings?environment=e{number}&component=c{number}&reason=r{number}", token)
        await api.get(f"/x{number}", token)
        await api.ask(f"M{number}", "/", token)
        await api.get("/v1/whoami", f"{number}.{number}.{number}", user_agent=f"u{number}")
    text = (await api.get("/metrics", port=api.operator_port)).body.decode()
    seen = {}
    for name, value in labels.findall(text):
        seen.setdefault(name, set()).add(value)
    assert set(seen) == {"version", "environment", "state"} or set(seen) == {"version", "environment", "state", "reason"}
    assert seen["environment"] <= set(api.house.policy.current().environments)
    assert seen["state"] <= {state.value for state in State}
    assert seen.get("reason", set()) <= set(REASONS)
    assert len(text.splitlines()) < 100


async def test_a_reason_that_is_no_code_makes_no_label(api):
    made = (await api.post("/v1/pings", api.token(), await wanted(api))).json["id"]
    row = api.house.database.state.rows[made]
    row.ping = replace(row.ping, reasons=('x"} 1\nevil{a="b', "votes-missing"))
    text = (await api.get("/metrics", port=api.operator_port)).body.decode()
    assert "evil" not in text
    assert 'reason="votes-missing"} 1' in text
