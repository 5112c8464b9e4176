"""Mutants of one source text: one guard, comparison, reason or answer changed in each. Pure: text in, trees out.

| kind | what is changed |
|---|---|
| guard | an `if`, a filter of a comprehension or a guard of a `case` that is never, or always, met; the `case` itself |
| negated | the condition of an `if`, a `while`, a conditional expression or a filter says the opposite |
| shorter | one element of an `and` or `or` chain is left out |
| compared | `<` for `<=` and back, `==` for `!=`, `in` for `not in`, `is` for `is not` |
| omitted | a statement that calls a check of ours, adds to what was found, yields, raises or answers does nothing |
| answer | `return` gives None, the empty tuple, True or False instead |

Only what stands in functions is changed; tables of constants are data, not checks. What is taken away stays in the tree behind a constant, so that
scopes, generators and line numbers are those of the original: a mutant's code can replace a live function's.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

MAX_WORDS = 160
_GROWING = frozenset({"add", "append", "extend", "setdefault", "update", "verify"})
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


@unique
class Kind(StrEnum):
    """What was done to the code."""

    GUARD = "guard"
    NEGATED = "negated"
    SHORTER = "shorter"
    COMPARED = "compared"
    OMITTED = "omitted"
    ANSWER = "answer"


@dataclass(frozen=True)
class Mutant:
    """One change. `words` names it within its function whatever lines are added elsewhere; `statement` is the line that must run to meet it."""

    number: int
    kind: Kind
    function: str
    line: int
    statement: int
    words: str


Change = Callable[[], None]
Found = tuple[Kind, ast.AST, str, Change]


def mutants_of(source: str) -> list[Mutant]:
    """Every mutant of a module's source, in the order of its text."""
    seen: Counter[tuple[str, str]] = Counter()
    made = []
    for number, (kind, function, node, statement, words, _) in enumerate(_changes(ast.parse(source))):
        seen[function, words] += 1
        again = seen[function, words]
        made.append(Mutant(number, kind, function, node.lineno, statement, words if again == 1 else f"{words} (no. {again})"))  # type: ignore[attr-defined]
    return made


def mutated(source: str, number: int) -> ast.Module:
    """The module with one change made."""
    tree = ast.parse(source)
    for index, (*_, change) in enumerate(_changes(tree)):
        if index == number:
            change()
            return ast.fix_missing_locations(tree)
    raise IndexError(number)


def _changes(tree: ast.Module) -> Iterator[tuple[Kind, str, ast.AST, int, str, Change]]:
    for name, function in _functions(tree, ()):
        for statement in _statements(function.body):
            found = sorted(_of_statement(statement, function), key=lambda one: (one[1].lineno, one[1].col_offset))  # type: ignore[attr-defined]
            for kind, node, words, change in found:
                yield kind, name, node, statement.lineno, words, change


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(node: ast.AST, path: tuple[str, ...]) -> Iterator[tuple[str, _Function]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, _Function | ast.ClassDef)
        inner = (*path, child.name) if named else path  # type: ignore[attr-defined]
        if isinstance(child, _Function):
            yield ".".join(inner), child
        yield from _functions(child, inner)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement of one function, nested blocks included, nested functions and classes left to themselves."""
    for statement in body:
        if isinstance(statement, _Function | ast.ClassDef):
            continue
        yield statement
        for block in blocks(statement):
            yield from _statements(block)


def blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The lists of statements directly inside a statement."""
    for name in ("body", "orelse", "finalbody"):
        if getattr(statement, name, None):
            yield getattr(statement, name)
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body


def _of_statement(statement: ast.stmt, function: _Function) -> Iterator[Found]:
    match statement:
        case ast.If():
            yield from _of_if(statement)
        case ast.While(test=test) if not isinstance(test, ast.Constant):
            yield Kind.NEGATED, test, f"negate: while {_text(test)}", _set(statement, "test", _negation(test))
        case ast.Match(cases=cases):
            for case in cases:
                yield from _of_case(case)
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()) | ast.AugAssign() | ast.Raise():
            if not _is_all_of_an_if(statement, function):
                yield _omission(statement, function)
        case ast.Expr(value=ast.Call() as call) if _checks_or_gathers(call):
            yield _omission(statement, function)
        case ast.Return(value=value) if value is not None:
            yield from _of_return(statement, value, function)
        case _:
            pass
    whole = getattr(statement, "test", None)
    for holder, name, index, expression in _expressions(statement):
        yield from _of_expression(holder, name, index, expression, whole)


def _of_if(statement: ast.If) -> Iterator[Found]:
    text = _text(statement.test)
    leaves = isinstance(statement.body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)
    if leaves or all(isinstance(inner, ast.Expr | ast.AugAssign) for inner in statement.body):
        yield Kind.GUARD, statement, f"drop: if {text}: {_text(statement.body[-1])}", _set(statement, "test", _with(False, ast.And, statement.test))
    yield Kind.NEGATED, statement, f"negate: if {text}", _set(statement, "test", _negation(statement.test))


def _of_case(case: ast.match_case) -> Iterator[Found]:
    pattern = _text(case.pattern)
    if case.guard is not None:
        yield Kind.GUARD, case.guard, f"drop: if {_text(case.guard)} of case {pattern}", _set(case, "guard", _with(True, ast.Or, case.guard))
    first = case.body[0]
    # Its arm for what the types exclude is not a check, and an arm that does nothing else than its absence would is none.
    if "assert_never" in _text(first) or isinstance(first, ast.Pass):
        return
    if pattern != "_":
        guard = ast.Constant(False) if case.guard is None else _with(False, ast.And, case.guard)
        yield Kind.GUARD, case.pattern, f"drop: case {pattern}", _set(case, "guard", guard)


def _of_return(statement: ast.Return, value: ast.expr, function: _Function) -> Iterator[Found]:
    annotation = function.returns
    for answer in _answers(annotation):
        if _text(value) != _text(answer):
            yield Kind.ANSWER, statement, f"return {_text(answer)} for: {_text(value)}", _set(statement, "value", _instead(answer, value))


def _answers(annotation: ast.expr | None) -> list[ast.expr]:
    match annotation:
        case ast.Name(id="bool"):
            return [ast.Constant(True), ast.Constant(False)]
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[_, ast.Constant(value=builtins)])) if builtins is Ellipsis:
            return [ast.Tuple([], ast.Load())]
        case ast.Subscript(value=ast.Name(id="list")):
            return [ast.List([], ast.Load())]
        case ast.BinOp(op=ast.BitOr(), right=ast.Constant(value=None)):
            return [ast.Constant(None)]
        case _:
            return []


def _of_expression(holder: Any, name: str, index: int | None, expression: ast.expr, whole: ast.expr | None) -> Iterator[Found]:
    match expression:
        case ast.BoolOp(op=operator, values=values):
            word, neutral = ("and", True) if isinstance(operator, ast.And) else ("or", False)
            for position, element in enumerate(values):
                change = _set(expression, "values", _with(neutral, ast.Or if neutral else ast.And, element), position)
                yield Kind.SHORTER, element, f"leave out of the {word}: {_text(element)}", change
        case ast.Compare(ops=operators):
            for position, operator in enumerate(operators):
                swapped = _BOUNDARY.get(type(operator)) or (None if expression is whole and len(operators) == 1 else _OPPOSITE.get(type(operator)))
                if swapped is not None:
                    words = f"{_SPELT[swapped]} for {_SPELT[type(operator)]}: {_text(expression)}"
                    yield Kind.COMPARED, expression, words, _set(expression, "ops", swapped(), position)
        case ast.IfExp(test=test):
            yield Kind.NEGATED, test, f"negate: if {_text(test)}", _set(expression, "test", _negation(test))
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            for generator in expression.generators:
                for position, test in enumerate(generator.ifs):
                    yield Kind.GUARD, test, f"drop: filter if {_text(test)}", _set(generator, "ifs", _with(True, ast.Or, test), position)
                    yield Kind.NEGATED, test, f"negate: filter if {_text(test)}", _set(generator, "ifs", _negation(test), position)
        case _:
            pass


_SPELT: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not",
}  # fmt: skip


def _expressions(statement: ast.stmt) -> Iterator[tuple[Any, str, int | None, ast.expr]]:
    """Every expression that belongs to a statement and not to one inside it; an `assert` is for the type checker. Lambdas count."""
    if isinstance(statement, ast.Assert):
        return
    pending: list[ast.AST] = [statement]
    while pending:
        holder = pending.pop()
        for name, value in ast.iter_fields(holder):
            for index, node in enumerate(value) if isinstance(value, list) else ((None, value),):
                if isinstance(node, ast.expr):
                    yield holder, name, index, node
                if isinstance(node, ast.AST) and not isinstance(node, ast.stmt):
                    pending.append(node)


def _checks_or_gathers(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id=name):
            return name not in {"print", "setattr"} and not name.startswith("assert_never")
        case ast.Attribute(value=ast.Name(id="self" | "cls" | "checks" | "fields")):
            return True
        case ast.Attribute(attr=name):
            return name in _GROWING or name in {"done", "end"}
        case _:
            return False


def _is_all_of_an_if(statement: ast.stmt, function: _Function) -> bool:
    """A guard's only statement: to drop the guard is to omit it."""
    return any(isinstance(outer, ast.If) and outer.body == [statement] and not outer.orelse for outer in _statements(function.body))


def _omission(statement: ast.stmt, function: _Function) -> Found:
    def change() -> None:
        for block in _all_blocks(function):
            if statement in block:
                block[block.index(statement)] = ast.copy_location(ast.If(ast.Constant(False), [statement], []), statement)
                return
        raise AssertionError("a statement stands in a block")

    return Kind.OMITTED, statement, f"omit: {_text(statement)}", change


def _all_blocks(function: _Function) -> Iterator[list[ast.stmt]]:
    yield function.body
    for statement in _statements(function.body):
        yield from blocks(statement)


def _negation(test: ast.expr) -> ast.expr:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.Compare(left=left, ops=[operator], comparators=comparators) if type(operator) in _OPPOSITE:
            return ast.Compare(left, [_OPPOSITE[type(operator)]()], comparators)
        case _:
            return ast.UnaryOp(ast.Not(), test)


def _with(constant: bool, operator: type[ast.boolop], element: ast.expr) -> ast.expr:
    """`True or element`, `False and element`: the element is never asked, its names keep their scope."""
    return ast.BoolOp(operator(), [ast.Constant(constant), element])


def _instead(answer: ast.expr, value: ast.expr) -> ast.expr:
    return ast.IfExp(ast.Constant(True), answer, value)


def _set(holder: Any, name: str, node: Any, index: int | None = None) -> Change:
    def change() -> None:
        if index is None:
            setattr(holder, name, node)
        else:
            getattr(holder, name)[index] = node

    return change


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= MAX_WORDS else text[: MAX_WORDS - 3] + "..."
