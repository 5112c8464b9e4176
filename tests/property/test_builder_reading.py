from hypothesis import given
from hypothesis import strategies as st

from builder.log import Escaper
from builder.pipeline import ConfigInvalid, parse_document
from builder.plan import make_plan
from builder.statement import Output, Run, Source, Subject, manifest_statement
from gatekeeper.model.digest import digest_of

DOCUMENT = b'version: 1\ntype: make\nartifact:\n  paths: [out]\nrun:\n  argv: ["x"]\n  health: /\n'


@given(st.binary(max_size=300) | st.text(alphabet=":-[]{}&*!|>'\"#\n ?,ab1%", max_size=200).map(str.encode))
def test_no_document_does_anything_but_parse_or_be_refused(data):
    try:
        document = parse_document(data)
    except ConfigInvalid:
        return
    assert document.paths or document.type


@given(st.integers(0, len(DOCUMENT) - 1), st.binary(min_size=1, max_size=4))
def test_a_damaged_document_does_nothing_else_either(at, damage):
    try:
        plan = make_plan(parse_document(DOCUMENT[:at] + damage + DOCUMENT[at + 1 :]), repository="hello", enforced=(), most_s=60)
    except ConfigInvalid:
        return
    assert plan.digest.startswith("sha256:")


@given(st.lists(st.binary(max_size=20)))
def test_escaping_is_the_same_however_the_bytes_are_cut(chunks):
    escaper = Escaper()
    text = "".join(escaper.feed(chunk) for chunk in chunks) + escaper.feed(b"", last=True)
    assert text == Escaper().feed(b"".join(chunks), last=True)
    assert not any(c < " " and c not in "\n\t" for c in text)


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 9), min_size=1))
def test_a_manifest_does_not_depend_on_the_order_of_outputs(files):
    outputs = [Output(name, size, digest_of(name.encode("utf-8", "surrogatepass"))) for name, size in files.items()]
    said = (Subject("hello", digest_of(b"")), Source("r", "main", "a" * 40, "b" * 40), Run("p", "https://b", "1", digest_of(b"")))
    assert manifest_statement(*said, outputs) == manifest_statement(*said, outputs[::-1])
