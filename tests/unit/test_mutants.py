"""`make mutants` says the truth: what is changed, that the change reaches live code, and what makes a run red."""

import ast
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from clients.doorkeeper import cli
from tests.mutants import run
from tests.mutants.live import Instrumented, live_functions, probed, replace_functions
from tests.mutants.memory import Memory
from tests.mutants.mutate import mutants_of, mutated
from tests.mutants.programs import Programs
from tests.mutants.run import chosen_files
from tests.mutants.survivors import SURVIVORS, Name, faults, parse_survivors
from tests.mutants.warm import Observed


def source(text):
    return textwrap.dedent(text).lstrip()


def words(text):
    return [mutant.words for mutant in mutants_of(source(text))]


def answers(text, call):
    """What each mutant of a module answers to a call; an exception by its name."""
    found = {}
    for mutant in mutants_of(source(text)):
        room = {}
        exec(compile(mutated(source(text), mutant.number), "<mutant>", "exec"), room)
        try:
            found[mutant.words] = eval(call, room)
        except Exception as error:  # noqa: BLE001 -- whatever a mutant raises
            found[mutant.words] = type(error).__name__
    return found


GUARD = """
    def check(size, most):
        if size > most:
            raise ValueError("too long")
        return size
    """


def test_a_guard_is_dropped_negated_and_moved_by_one():
    assert answers(GUARD, "check(5, 5)") == {
        "drop: if size > most: raise ValueError('too long')": 5,
        "negate: if size > most": "ValueError",
        ">= for >: size > most": "ValueError",
    }
    assert answers(GUARD, "check(6, 5)")["drop: if size > most: raise ValueError('too long')"] == 6


def test_each_element_of_a_chain_is_left_out():
    text = """
        def fits(a, b, c) -> object:
            return a and (b or c)
        """
    assert answers(text, "fits(False, True, True)")["leave out of the and: a"] is True
    assert answers(text, "fits(True, True, False)")["leave out of the or: b"] is False
    assert answers(text, "fits(True, False, True)")["leave out of the or: c"] is False
    assert answers(text, "fits(True, False, False)")["leave out of the and: b or c"] is True


@pytest.mark.parametrize(
    ("before", "after"),
    [("a < b", "<= for <"), ("a <= b", "< for <="), ("a == b", "!= for =="), ("a in b", "not in for in"), ("a is b", "is not for is")],
)
def test_comparisons_that_are_no_whole_condition_are_swapped(before, after):
    assert words(f"def f(a, b):\n    return [{before}]") == [f"{after}: {before}"]


def test_a_condition_of_one_comparison_is_negated_once():
    assert [one for one in words("def f(a):\n    if a == 1:\n        return 2\n    return 3") if "drop" not in one] == ["negate: if a == 1"]


def test_what_is_found_or_demanded_is_left_out():
    text = """
        def reasons(a):
            found = []
            demand(a)
            found.append("first")
            found += ["second"]
            return found
        def demand(a):
            try:
                int(a)
            except ValueError:
                raise KeyError from None
        def each():
            yield 1
            yield 2
        """
    found = answers(text, "reasons('x')")
    assert found["omit: demand(a)"] == ["first", "second"]
    assert found["omit: raise KeyError from None"] == ["first", "second"]
    found = answers(text, "reasons('1')")
    assert (found["omit: found.append('first')"], found["omit: found += ['second']"]) == (["second"], ["first"])
    assert answers(text, "list(each())")["omit: yield 1"] == [2]


def test_answers_are_replaced_as_their_type_allows():
    text = """
        def refusal(a) -> str | None:
            return a + "!"
        def holds(a) -> bool:
            return a > 1
        def all_of(a) -> tuple[int, ...]:
            return (a,)
        def never(a) -> str:
            return a
        """
    assert words(text) == [
        "return None for: a + '!'",
        "return True for: a > 1",
        "return False for: a > 1",
        ">= for >: a > 1",
        "return () for: (a,)",
    ]
    assert answers(text, "refusal('x')")["return None for: a + '!'"] is None
    assert answers(text, "holds(1)")["return True for: a > 1"] is True


def test_cases_and_filters_are_guards():
    text = """
        def kind(a):
            match a:
                case int() if a > 3:
                    return "large"
                case str():
                    return "text"
                case _:
                    assert_never(a)
        def large(them):
            return [one for one in them if one > 3]
        """
    assert answers(text, "kind(5)")["drop: case int()"] == "NameError"
    assert answers(text, "kind(1)")["drop: if a > 3 of case int()"] == "large"
    assert answers(text, "large([1, 5])")["drop: filter if one > 3"] == [1, 5]
    assert answers(text, "large([1, 5])")["negate: filter if one > 3"] == [1]


def test_constants_assertions_and_what_is_not_ours_stay():
    assert words("LIMIT = 3 < 4\nassert LIMIT\ndef f(a):\n    assert a is not None\n    a.close()\n    print(a)") == []


def test_the_same_words_twice_are_counted():
    text = "def f(a):\n    if a:\n        return 1\n    if a:\n        return 1\n    return 2"
    assert [one for one in words(text) if "negate" in one] == ["negate: if a", "negate: if a (no. 2)"]


def test_names_say_where():
    text = "class A:\n    def b(self):\n        def c(x):\n            if x:\n                return 1\n        return c"
    assert {mutant.function for mutant in mutants_of(text)} == {"A.b.c"}
    assert {mutant.line for mutant in mutants_of(text)} == {4}


def load(path, text):
    path.write_text(source(text))
    room = {"__name__": "victim"}
    exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), room)
    return room


def test_a_live_function_is_given_a_mutants_code_and_the_file_stays(tmp_path):
    path = tmp_path / "victim.py"
    room = load(path, GUARD)
    before, kept = path.read_bytes(), room["check"]
    mutant = next(one for one in mutants_of(path.read_text()) if one.words.startswith("drop"))
    replace_functions(live_functions({str(path): "victim.py"}), str(path), mutant.number, mutant.function)
    assert kept(6, 5) == 6
    assert path.read_bytes() == before


def test_a_method_in_a_closure_is_reached(tmp_path):
    path = tmp_path / "victim.py"
    text = """
        def outer(limit):
            def inner(size):
                if size > limit:
                    return None
                return size
            return inner
        check = outer(5)
        """
    room = load(path, text)
    mutant = next(one for one in mutants_of(path.read_text()) if one.words.startswith("drop"))
    replace_functions(live_functions({str(path): "victim.py"}), str(path), mutant.number, mutant.function)
    assert (room["check"](6), room["outer"](3)(6)) == (6, 6)


def test_probes_tell_each_statement_that_ran_and_change_nothing(tmp_path, monkeypatch):
    ran = set()
    monkeypatch.setattr("builtins.pingee_mutants_ran", ran.add, raising=False)
    text = source(GUARD)
    room = {}
    exec(compile(probed(text, "victim.py"), "victim.py", "exec"), room)
    assert room["check"](1, 2) == 1
    assert ran == {("victim.py", 2), ("victim.py", 4)}
    documented = "def f():\n    'said'\n    return 1"
    exec(compile(probed(documented, "v"), "v", "exec"), room)
    assert room["f"].__doc__ == "said"


def test_a_module_is_loaded_as_the_mutant(tmp_path):
    path = tmp_path / "victim.py"
    path.write_text(source(GUARD))
    room = {}
    exec(Instrumented({str(path): "victim.py"}, ("victim.py", 0)).compiled(str(path), "victim.py"), room)
    assert room["check"](6, 5) == 6


ONE, TWO = Name("a.py", "f", "negate: if x"), Name("b.py", "g", "drop: if y: return")
LISTED = """
    checks = ["c.py", "b.py:check_*"]
    [[survivor]]
    file = "a.py"
    function = "f"
    mutation = "negate: if x"
    reason = "both ways lead to the same answer"
    """


@pytest.mark.parametrize(
    ("made", "survived", "whole", "red"),
    [
        ([ONE, TWO], [ONE], False, None),
        ([ONE, TWO], [ONE, TWO], False, "not listed: b.py: g"),
        ([ONE, TWO], [], False, "listed, but it is killed: a.py: f"),
        ([Name("a.py", "f", "other")], [], False, "listed, but there is no such mutant: a.py: f"),
        ([TWO], [], False, None),
        ([TWO], [], True, "listed, but there is no such mutant: a.py: f"),
        ([ONE, TWO], [ONE], True, "1 of 2 mutants survived: more than 2%"),
        ([ONE, *(Name("b.py", "g", str(number)) for number in range(49))], [ONE], True, None),
        ([ONE, Name("c.py", "f", "x")], [ONE, Name("c.py", "f", "x")], False, "in a check of signature, identity, digest or subject: c.py: f"),
        ([ONE, Name("b.py", "check_it", "x")], [ONE, Name("b.py", "check_it", "x")], False, "in a check of signature"),
    ],
)
def test_a_run_is_judged(made, survived, whole, red):
    found = faults(parse_survivors(LISTED), made, survived, whole=whole)
    assert any(one.startswith(red) for one in found) if red else found == []


def test_a_survivor_in_a_check_is_red_though_it_is_listed():
    listed = parse_survivors(LISTED.replace('"c.py"', '"a.py"'))
    assert faults(listed, [ONE], [ONE], whole=False) == [f"in a check of signature, identity, digest or subject: {ONE}"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LISTED + LISTED.partition("\n")[2].partition("\n")[2], "listed twice"),
        (LISTED.replace("both ways lead to the same answer", "equivalent"), "no reason"),
        (LISTED.replace("mutation =", "line ="), "an entry is file, function, mutation and reason"),
        (LISTED + "\n[other]\n", "nothing else"),
    ],
)
def test_a_table_that_says_too_little_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse_survivors(text)


def test_scopes_are_found_by_themselves():
    files = chosen_files(())
    assert {"gatekeeper/verify/token.py", "gatekeeper/policy/rules/votes.py", "gatekeeper/tlog/note.py", "clients/doorkeeper/checks.py"} <= set(files)
    assert chosen_files(["gatekeeper/verify/to"]) == ["gatekeeper/verify/token.py"]
    assert run.main(["--only", "gatekeeper/nowhere"]) == 1


def test_the_list_is_of_mutants_that_there_are(capsys):
    listed = parse_survivors(SURVIVORS.read_text())
    root = Path(run.ROOT)
    made = {
        Name(file, mutant.function, mutant.words) for file in {one.file for one in listed.reasons} for mutant in mutants_of((root / file).read_text())
    }
    assert set(listed.reasons) - made == set()
    assert run.main(["--only", "gatekeeper/verify/bundle.py", "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("to be made")


def test_every_mutant_of_the_scopes_compiles():
    for file in ("gatekeeper/verify/token.py", "clients/doorkeeper/checks.py"):
        text = (Path(run.ROOT) / file).read_text()
        plain = ast.dump(ast.parse(text))
        for mutant in mutants_of(text):
            tree = mutated(text, mutant.number)
            compile(tree, file, "exec", dont_inherit=True)
            assert ast.dump(tree) != plain, mutant


def test_an_observation_in_which_a_test_failed_is_made_again(tmp_path):
    file = "tests/unit/test_mutants.py"
    memory = Memory(tmp_path / "memory.json")
    good, bad = Observed(0.5, False, {("a.py", 1)}), Observed(0.5, True, {("a.py", 1)})
    memory.observe({f"{file}::one": good})
    assert memory.observed(file) == {f"{file}::one": good}
    memory.observe({f"{file}::one": good, f"{file}::two": bad})
    assert memory.observed(file) is None


def test_a_doorkeeper_that_is_called_as_a_program_is_a_fork(tmp_path, monkeypatch):
    # In a run of `make mutants` another one stands there already, and would become the program first.
    monkeypatch.setattr(subprocess, "Popen", next(kind for kind in subprocess.Popen.__mro__ if kind.__module__ == "subprocess"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ran, told = {("before.py", 1)}, []
    Programs(ran, lambda: told.append("fresh")).install()
    command = [sys.executable, "-m", "clients.doorkeeper.cli", "--dir", str(tmp_path), "status"]
    plain = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, timeout=60, check=False)
    assert plain.returncode == cli.STATE
    assert "error" in json.loads(plain.stdout)

    def changed():
        ran.add(("seen.py", 7))
        sys.stdout.write(f"{os.environ.get('WORD')} {sys.argv[1]} {sys.stdin.read()}\n")
        raise SystemExit(42)

    monkeypatch.setattr(cli, "main", changed)
    done = subprocess.run(command, input=b"frame", env={"WORD": "apply"}, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (42, b"apply --dir frame\n")
    assert ran == {("before.py", 1)}
    Programs(ran, lambda: None).collect()
    assert ran == {("before.py", 1), ("seen.py", 7)}
    assert not told
