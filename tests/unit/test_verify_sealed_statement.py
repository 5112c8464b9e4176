"""A statement is only to be had by naming payload type, predicate types and subject: attack matrix rows 1 and 9 to 17, at the one door."""

import ast
import inspect
import json
from pathlib import Path

import pytest

import gatekeeper
from gatekeeper.model.uris import IN_TOTO_PAYLOAD, STATEMENT_V01, STATEMENT_V1
from gatekeeper.verify import claims, foreignprovenance, summary
from gatekeeper.verify.errors import MalformedStatement
from gatekeeper.verify.statement import Among, AnyPredicate, Only, Part, Statement, UnfitStatement, open_statement
from tests.fakes.signing import ARTIFACT, manifest_statement

HEX = ARTIFACT.removeprefix("sha256:")
TYPE = "https://example.org/any/v1"


def payload(**changes):
    members = {"_type": STATEMENT_V1, "subject": [{"digest": {"sha256": HEX}}], "predicateType": TYPE, "predicate": {}}
    return json.dumps(members | changes).encode()


def opened(data=None, *, payload_type=IN_TOTO_PAYLOAD, predicates=(TYPE,), about=None, **options):
    return open_statement(payload_type, payload() if data is None else data, predicates=predicates, about=about or Only("sha256", HEX), **options)


def refused(part, *arguments, **options):
    with pytest.raises(UnfitStatement) as caught:
        opened(*arguments, **options)
    assert caught.value.part is part
    return caught.value.detail


def test_a_statement_as_it_was_asked_for():
    statement = opened()
    assert (statement.subject, statement.predicate_type, statement.legacy) == (HEX, TYPE, frozenset())
    assert opened(about=Only("sha256", None)).subject == HEX
    assert opened(predicates=AnyPredicate.ANY).predicate_type == TYPE


def test_nobody_else_makes_one_and_nobody_changes_one():
    with pytest.raises(TypeError, match="only open_statement"):
        Statement()
    with pytest.raises(AttributeError, match="do not change"):
        opened().subject = "0" * 64
    with pytest.raises(AttributeError):
        opened().more = 1


def test_the_three_things_cannot_be_left_out():
    required = {name for name, one in inspect.signature(open_statement).parameters.items() if one.default is inspect.Parameter.empty}
    assert required == {"payload_type", "payload", "predicates", "about"}


@pytest.mark.parametrize("kind", ["application/json", IN_TOTO_PAYLOAD + ";x=1", IN_TOTO_PAYLOAD.upper(), "", "application/vnd.in-toto.provenance+json"])
def test_row_1_another_payload_type_is_refused_before_a_byte_is_parsed(kind):
    assert IN_TOTO_PAYLOAD in refused(Part.PAYLOAD_TYPE, b"{", payload_type=kind)


@pytest.mark.parametrize("kind", [TYPE + "evil", TYPE[:-1], TYPE.upper(), TYPE + "/", "https://example.org/any/v2"])
def test_row_10_another_predicate_type_is_refused(kind):
    assert refused(Part.PREDICATE, payload(predicateType=kind)) == f"the predicate type must be {TYPE}"


def test_row_10_no_predicate_type_is_every_one_refused():
    refused(Part.PREDICATE, predicates=())


def test_row_9_the_older_statement_is_read_where_it_is_asked_for_and_says_that_it_is():
    with pytest.raises(MalformedStatement, match="/_type"):
        opened(payload(_type=STATEMENT_V01))
    assert opened(payload(_type=STATEMENT_V01), types=(STATEMENT_V1, STATEMENT_V01)).legacy == {STATEMENT_V01}


def test_row_12_another_subject_is_refused():
    refused(Part.SUBJECT, about=Only("sha256", "0" * 64))
    refused(Part.SUBJECT, about=Among({"sha256": "0" * 64}))
    refused(Part.SUBJECT, about=Only("gitCommit", None))


def test_row_14_a_known_digest_that_differs_is_refused_and_an_unknown_one_is_named():
    both = payload(subject=[{"digest": {"sha256": HEX, "sha512": "1" * 128}}])
    refused(Part.SUBJECT, both, about=Among({"sha256": HEX, "sha512": "2" * 128}))
    assert opened(both, about=Among({"sha256": HEX, "sha512": "1" * 128})).compared == "by sha256, the only one"
    assert opened(both, about=Among({"sha256": HEX})).compared == "by sha256, the only one; not compared: sha512"
    refused(Part.SUBJECT, both)


def test_row_17_one_of_many_counts_for_nobody_who_decides():
    many = payload(subject=[{"digest": {"sha256": "0" * 64}}, {"digest": {"sha256": HEX}}])
    assert opened(many, about=Among({"sha256": HEX})).compared == "by sha256, one of 2"
    refused(Part.SUBJECT, many)
    refused(Part.SUBJECT, payload(subject=[{"digest": {"sha256": HEX}}] * 2))


def test_whoever_reads_a_predicate_is_handed_a_statement():
    assert claims.Claim.__annotations__["statement"] == "Statement"
    for expected in (foreignprovenance.ExpectedProvenance, summary.ExpectedSummary):
        assert expected.demand.__annotations__["statement"] == "Statement"


def test_no_code_of_the_gatekeeper_looks_at_what_was_not_compared():
    root = Path(gatekeeper.__file__).parent
    looking = set()
    for file in root.rglob("*.py"):
        names = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in ast.walk(ast.parse(file.read_text()))}
        imported = {alias.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) for alias in node.names}
        if {"parse_statement", "UntrustedStatement"} & (names | imported):
            looking.add(file.relative_to(root).as_posix())
    assert looking == {"verify/statement.py"}


def test_no_decision_asks_for_any_predicate():
    root = Path(gatekeeper.__file__).parent
    asking = {file.relative_to(root).as_posix() for file in root.rglob("*.py") if "AnyPredicate" in file.read_text()}
    assert asking == {"verify/statement.py", "verify/attestation.py", "verify/offlineforms.py"}


def test_a_real_statement_of_ours_opens():
    document = manifest_statement()
    assert opened(document, predicates=("https://pingee.internal/manifest/v1",)).subject == HEX
