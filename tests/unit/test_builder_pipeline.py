import pytest

from builder.pipeline import ConfigInvalid, parse_document
from builder.plan import StepKind, component_of, make_plan, render_plan
from builder.statement import StageName

GOOD = b"""version: 1
component: hello
commit:
  build: [make]
  test: ["make test"]
  timeout: 5m
acceptance:
  test: ["make acceptance"]
artifact:
  paths: [out/greeter, static/]
run:
  argv: ["out/greeter", "{port}"]
  health: /healthz
  grace: 20s
"""


def plan_of(data, **changes):
    return make_plan(parse_document(data), **{"repository": "https://git.demo/hello", "enforced": (), "most_s": 3600, **changes})


def test_a_good_document_is_read_whole():
    plan = plan_of(GOOD)
    assert [(step.kind, step.command) for step in plan.commit.steps] == [(StepKind.BUILD, "make"), (StepKind.TEST, "make test")]
    assert (plan.commit.timeout_s, plan.acceptance.timeout_s) == (300, 600)
    assert plan.paths == ("out/greeter", "static")
    assert (plan.run.argv, plan.run.health, plan.run.grace_s) == (("out/greeter", "{port}"), "/healthz", 20)
    assert plan.stage(StageName.ACCEPTANCE).steps[0].command == "make acceptance"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "words"),
    [
        (b"version: 1\n", b"", 1, "version", "first key"),
        (b"version: 1", b"version: 2", 1, "version", "version 1 only"),
        (b"version: 1", b"version: '1'", 1, "version", "must be the number 1"),
        (b"component: hello", b"component: Hello", 2, "component", "must be a name"),
        (b"component: hello", b"component: yes", 2, "component", "put it in quotes"),
        (b"component: hello", b"component: hello\ncomponent: hello", 3, "component", "stands twice"),
        (b"component: hello", b"component: &a hello", 2, "", "anchor"),
        (b"component: hello", b"component: *a", 2, "", "alias"),
        (b"component: hello", b"component: !!str hello", 2, "", "tag"),
        (b"component: hello", b"component: !!python/name:os.system ''", 2, "", "tag"),
        (b"component: hello", b"colour: red", 2, "colour", "is not a key"),
        (b"component: hello", b"services: [db]", 2, "services", "reserved word, not yet"),
        (b"  build: [make]", b"  matrix: {}\n  build: [make]", 4, "commit.matrix", "reserved word, not yet"),
        (b"[make]", b"make", 4, "commit.build", "must be a list"),
        (b"[make]", b"[1]", 4, "commit.build[0]", "must be a string"),
        (b"[make]", b"[]", 4, "commit.build", "1 to 64 items"),
        (b"timeout: 5m", b"timeout: 5", 6, "commit.timeout", "must be a string"),
        (b"timeout: 5m", b"timeout: 5d", 6, "commit.timeout", "duration such as"),
        (b"static/", b"../etc", 10, "artifact.paths[1]", "inside the workspace"),
        (b"static/", b"/etc", 10, "artifact.paths[1]", "inside the workspace"),
        (b"static/", b".git/config", 10, "artifact.paths[1]", "inside the workspace"),
        (b"/healthz", b"healthz", 13, "run.health", "must be a path"),
        (b"  argv: [\"out/greeter\", \"{port}\"]\n", b"", 12, "run.argv", "is missing"),
        (b"[make]", b"[[[[[[[[[make]]]]]]]]]", 4, "", "nested deeper than 8"),
        (b"component: hello", b"component: hello\n---", 3, "", "second document"),
        (b"component: hello", b"component: [", 3, "", "is not YAML"),
        (b"component: hello", b"component: \xff", 2, "", "not UTF-8"),
        (b"component: hello", b"# " + b"x" * 65536, 1, "", "larger than 65536"),
        (b"version: 1", b"\xef\xbb\xbfversion: 1", 1, "", "byte order mark"),
        (b"version: 1", b"%YAML 1.1\n---\nversion: 1", 1, "", "directive"),
    ],
)
def test_what_is_refused_names_line_key_and_remedy(old, new, line, key, words):
    assert old in GOOD
    with pytest.raises(ConfigInvalid) as refused:
        plan_of(GOOD.replace(old, new))
    assert refused.value.code == "config-invalid"
    assert words in refused.value.detail
    if "is not YAML" not in words:
        assert (refused.value.line, refused.value.key) == (line, key)
    assert f".pipeline/config.yaml line {refused.value.line}" in str(refused.value)


def test_an_empty_document_is_refused():
    with pytest.raises(ConfigInvalid, match="empty"):
        parse_document(b"")


def test_a_timeout_above_the_builders_is_refused():
    with pytest.raises(ConfigInvalid, match="at most 60s"):
        plan_of(GOOD, most_s=60)


def test_changing_a_test_command_changes_the_plan_and_its_digest():
    changed = plan_of(GOOD.replace(b"make test", b"make check"))
    assert changed.commit.steps[1].command == "make check"
    assert changed.digest != plan_of(GOOD).digest


def test_enforced_steps_stand_after_the_repositorys_and_in_the_digest():
    enforced = plan_of(GOOD, enforced=("scan",))
    assert [step.command for step in enforced.commit.steps] == ["make", "make test", "scan"]
    assert enforced.commit.steps[2].kind is StepKind.TEST
    assert render_plan(enforced)["enforced"] == ["scan"]
    assert enforced.digest != plan_of(GOOD).digest


@pytest.mark.parametrize("kind", ["shell", "python", "make", "c", "go", "ruby", "java", "php"])
def test_each_type_resolves_to_a_plan(kind):
    data = GOOD.replace(b"component: hello", f"type: {kind}".encode()).replace(b'  build: [make]\n  test: ["make test"]\n', b"")
    plan = plan_of(data)
    assert plan.component == "hello"
    assert any(step.kind is StepKind.TEST for step in plan.commit.steps)


def test_an_unknown_type_and_no_tests_are_refused():
    with pytest.raises(ConfigInvalid, match="must be one of c, go"):
        plan_of(GOOD.replace(b"component: hello", b"type: cobol"))
    with pytest.raises(ConfigInvalid, match=r"commit\.test: is missing"):
        plan_of(GOOD.replace(b'  test: ["make test"]\n', b""))


def test_the_component_comes_from_the_repositorys_name():
    assert component_of("https://git.demo/team/hello.git/") == "hello"
    with pytest.raises(ConfigInvalid, match="component"):
        component_of("https://git.demo/Team%20A")
