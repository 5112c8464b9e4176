from dataclasses import replace

import pytest

from builder.fault import BuildFault
from builder.languages import LANGUAGES, parse_type
from builder.pipeline import ConfigInvalid, parse_document
from builder.plan import StepKind, component_of, make_plan, render_plan
from builder.statement import StageName
from builder.toolchain import find_programs

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


WHOLE = {
    "shell": ("sh", "out/main.sh", "{port}"),
    "python": ("python3", "out/main.py", "{port}"),
    "ruby": ("ruby", "out/main.rb", "{port}"),
    "php": ("php", "-S", "127.0.0.1:{port}", "-t", "out/public"),
    "node": ("node", "out", "{port}"),
    "go": ("out/hello", "{port}"),
    "java": ("java", "-jar", "out/hello.jar", "{port}"),
    "maven": ("java", "-jar", "out/hello.jar", "{port}"),
    "gradle": ("java", "-jar", "out/hello.jar", "{port}"),
    "make": ("out/hello", "{port}"),
    "c": ("out/hello", "{port}"),
}


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_a_document_of_one_line_gives_the_whole_plan(kind):
    """PROGLANGS, LIMITBOILERPLATE: build, test, outputs, start, health, times; no placeholder of ours is left in it."""
    plan = plan_of(f"{{version: 1, type: {kind}}}\n".encode())
    assert (plan.component, plan.type, plan.paths, plan.commit.timeout_s) == ("hello", kind, ("out",), 600)
    assert [step.kind for step in plan.commit.steps].count(StepKind.TEST) == 1
    assert any(step.kind is StepKind.BUILD for step in plan.commit.steps)
    assert (plan.run.argv, plan.run.health, plan.run.grace_s) == (WHOLE[kind], "/healthz", 10)
    assert not any(word in step.command for step in plan.commit.steps for word in ("{component}", "{version}"))


def test_every_type_is_in_the_table():
    assert set(WHOLE) == set(LANGUAGES)


@pytest.mark.parametrize(
    ("spelt", "places"),
    [
        ("python", {"python3": ("/usr/bin/python3",)}),
        ("python-3.12", {"python3": ("/usr/bin/python3.12", "/usr/local/bin/python3.12")}),
        ("ruby-3.1", {"ruby": ("/usr/bin/ruby3.1", "/usr/local/bin/ruby3.1")}),
        ("php-8.2", {"php": ("/usr/bin/php8.2", "/usr/local/bin/php8.2")}),
        ("go-1.22", {"go": ("/usr/lib/go-1.22/bin/go", "/usr/local/go1.22/bin/go")}),
        ("node-20", {"node": ("/usr/lib/node-20/bin/node",)}),
    ],
)
def test_a_version_of_a_type_is_its_own_program(spelt, places):
    """PROGLANGS, "versions of each"."""
    assert parse_type(spelt).places() == places
    plain, versioned = (plan_of(f"{{version: 1, type: {one}}}\n".encode()) for one in (spelt.split("-")[0], spelt))
    assert plain.commit == versioned.commit
    assert (plain.digest == versioned.digest) is (plain.type == spelt)


def test_a_jdk_version_is_chosen_and_the_build_tool_is_not():
    places = parse_type("maven-17").places()
    assert places["javac"] == ("/usr/lib/jvm/java-17-openjdk-amd64/bin/javac", "/usr/lib/jvm/java-17-openjdk-arm64/bin/javac")
    assert places["mvn"] == ("/usr/bin/mvn",)


def test_a_program_is_taken_where_it_is_and_its_absence_is_said():
    assert find_programs(parse_type("go"), lambda place: place.startswith("/usr/local/")) == {"go": "/usr/local/go/bin/go"}
    with pytest.raises(BuildFault, match=r"type ruby-2\.7 needs /usr/bin/ruby2\.7 or /usr/local/bin/ruby2\.7, which this builder does not have") as said:
        find_programs(parse_type("ruby-2.7"), lambda place: False)
    assert said.value.code == "toolchain-missing"


def test_explicit_commands_outputs_and_start_win_over_the_types():
    plan = plan_of(GOOD.replace(b"component: hello", b"type: go"))
    assert plan == replace(plan_of(GOOD), type="go")
    partly = plan_of(b"version: 1\ntype: go\ncommit:\n  timeout: 1m\nrun:\n  health: /up\nartifact: {}\n")
    assert (partly.commit.timeout_s, partly.run.health, partly.run.argv, partly.paths) == (60, "/up", ("out/hello", "{port}"), ("out",))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cobol", "must be one of c, go, gradle, java, make, maven, node, php, python, ruby, shell, or one with a version such as python-3.12"),
        ("python-", "must be"),
        ("python-3.x", "must be one of"),
        ("python-../../tmp", "must be"),
        ("shell-5", "has no versions to choose from; write 'type: shell'"),
    ],
)
def test_an_unknown_type_or_version_is_refused_at_its_line(kind, words):
    with pytest.raises(ConfigInvalid) as refused:
        plan_of(GOOD.replace(b"component: hello", f"component: hello\ntype: {kind}".encode()))
    assert (refused.value.line, refused.value.key) == (3, "type")
    assert words in refused.value.detail


@pytest.mark.parametrize(
    ("old", "line", "key"),
    [
        (b'  test: ["make test"]\n', 4, "commit.test"),
        (b"artifact:\n  paths: [out/greeter, static/]\n", 1, "artifact"),
        (b"  paths: [out/greeter, static/]\n", 9, "artifact"),
        (b"  health: /healthz\n", 12, "run.health"),
    ],
)
def test_without_a_type_nothing_is_filled_in(old, line, key):
    assert old in GOOD
    with pytest.raises(ConfigInvalid) as refused:
        plan_of(GOOD.replace(old, b""))
    assert (refused.value.line, refused.value.key) == (line, key)


def test_a_timeout_is_refused_at_its_own_line():
    with pytest.raises(ConfigInvalid) as refused:
        plan_of(GOOD, most_s=60)
    assert (refused.value.line, refused.value.key) == (6, "commit.timeout")


def test_a_blank_command_is_refused():
    with pytest.raises(ConfigInvalid, match=r"commit\.build\[0\]: must be a command"):
        plan_of(GOOD.replace(b"[make]", b'[" "]'))


def test_the_component_comes_from_the_repositorys_name():
    assert component_of("https://git.demo/team/hello.git/") == "hello"
    with pytest.raises(ConfigInvalid, match="component"):
        component_of("https://git.demo/Team%20A")
