"""`make corpora` makes every corpus that a test reads; what it takes out of Markdown and Go is the document as it stands there."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("extract_corpora", ROOT / "scripts" / "extract_corpora.py")
extract_corpora = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(extract_corpora)


def write(tree: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, "utf-8")
    return tree


def made() -> set[str]:
    return set(re.findall(r"^(?:fetch|extract) (\S+)", (ROOT / "scripts" / "fetch-corpora").read_text("utf-8"), re.MULTILINE))


def named() -> set[str]:
    sources = [path.read_text("utf-8") for folder in ("conformance", "bench", "unit") for path in (ROOT / "tests" / folder).glob("*.py")]
    return {name for text in sources for name in re.findall(r'(?:\bCORPORA / |\bcorpus\()"([^"]+)"', text)} - {"no-such-corpus"}


def test_every_corpus_that_a_test_names_is_made_and_no_other():
    assert named() == made()
    assert len(made()) == 7


def test_what_is_extracted_has_its_extractor():
    script = (ROOT / "scripts" / "fetch-corpora").read_text("utf-8")
    assert set(re.findall(r"^extract (\S+)", script, re.MULTILINE)) == set(extract_corpora.EXTRACTORS)


PROTOCOL = """# Protocol

```none
SIGNATURE = Sign(...)
```

## Test Vectors

BODY:

```none
a body
```

```none
https://type.example/a
```

```none
DSSEv1 22 https://type.example/a 6 a body
```

```none
Algorithm: ECDSA over NIST P-256
Signature: raw: r and s
X: 12
Y: 34
d: 56
```

```json
{"payload": "YSBib2R5",
 "signatures": []}
```
"""


def test_the_vector_of_the_protocol(tmp_path):
    extract_corpora.dsse(write(tmp_path, {"protocol.md": PROTOCOL}), tmp_path)
    assert json.loads((tmp_path / "vector.json").read_bytes()) == {
        "payload_utf8": "a body",
        "payloadType": "https://type.example/a",
        "pae_utf8": "DSSEv1 22 https://type.example/a 6 a body",
        "public_x": "12",
        "public_y": "34",
        "envelope": {"payload": "YSBib2R5", "signatures": []},
    }


@pytest.mark.parametrize("lacking", ["## Test Vectors", "```json"])
def test_a_protocol_without_its_vector_is_no_vector(tmp_path, lacking):
    with pytest.raises(ValueError, match="not enough values to unpack"):
        extract_corpora.dsse(write(tmp_path, {"protocol.md": PROTOCOL.replace(lacking, "")}), tmp_path)
    assert not (tmp_path / "vector.json").exists()


PAGE = """
```shell
$ jq .
```

```json
{"strict": 1}
```

```jsonl
{"a": 1}
```

-   a list

    ```json
    {"indented": 1}
    ```

```jsonc
 {
  ... // more
}
```
"""
STATEMENTS = """
func TestOne(t *testing.T) {
	var wantSt = `{"a":1}`
	_ = "input: `{}`"
	tests := map[string]struct{ input string }{"x": {input: `{"b":1}`}}
	stTemplate := `{"v":"%s"}`
"""
DESCRIPTORS = 'const badRd = `{"c":1}`\n\nconst (\n\twantRd   = `{"d":\n1}`\n)\n'


def test_examples_and_constants(tmp_path):
    page = {"spec/v1/a.md": PAGE, "spec/predicates/x/y.md": "```json\n{}\n```\n", "docs/z.md": PAGE}
    tests = {"go/v1/statement_test.go": STATEMENTS, "go/v1/resource_descriptor_test.go": DESCRIPTORS, "go/v1/statement.go": STATEMENTS}
    source, target = write(tmp_path / "source", {**page, **tests}), tmp_path / "target"
    target.mkdir()
    extract_corpora.in_toto_attestation(source, target)
    found = {
        item["file"]: (item["kind"], (target / "spec-examples" / item["file"]).read_text("utf-8"))
        for item in json.loads((target / "index.json").read_bytes())
    }
    assert found == {
        "spec__predicates__x__y__0.json": ("strict-json", "{}\n"),
        "spec__v1__a__0.json": ("strict-json", '{"strict": 1}\n'),
        "spec__v1__a__1.json": ("illustrative (comments/ellipsis)", " {\n  ... // more\n}\n"),
        "unit__go_v1_statement_test_go__wantSt.json": ("unit-test constant wantSt", '{"a":1}'),
        "unit__go_v1_statement_test_go__stTemplate.json": ("unit-test constant stTemplate", '{"v":"%s"}'),
        "unit__go_v1_resource_descriptor_test_go__badRd.json": ("unit-test constant badRd", '{"c":1}'),
        "unit__go_v1_resource_descriptor_test_go__wantRd.json": ("unit-test constant wantRd", '{"d":\n1}'),
    }
    assert {path.name for path in (target / "spec-examples").iterdir()} == set(found)


TABLE = """// a licence
package schema_test

// helper does nothing
func helper() {}

func TestThing(t *testing.T) {
	for i, tt := range []struct {
		thing string // the document
		fail  bool
	}{
		// expected failure: a
		//
		// see https://example.com/a
		{
			thing: `
{ "url": "https://example.com/foo" }
`,
			fail: true,
		},
		// nobody says
		{
			thing: `{"b":{}}`,
		},
		{
			// good
			digest: "sha256:}{\\"//",
			thing: `{"c":1}`,
			fail:   false,
		},
	} {
		t.Errorf("test %d: fail: true", i) // fail: true
	}
}

func TestOther(t *testing.T) {
	for _, tt := range []row{{thing: `x`, fail: true}} {
	}
}
"""


def test_rows_of_a_table_in_go(tmp_path):
    names = ("manifest", "imageindex", "descriptor", "config", "imagelayout", "backwards_compatibility")
    source = write(tmp_path, {f"schema/{name}_test.go": TABLE.replace("Thing", name) for name in names})
    extract_corpora.oci_image_spec(source, tmp_path)
    kinds = dict(zip(("manifest", "index", "descriptor", "config", "layout", "compat"), names, strict=True))
    assert {path.stem for path in (tmp_path / "cases").iterdir()} == set(kinds)
    for kind, name in kinds.items():
        first, second, third = json.loads((tmp_path / "cases" / f"{kind}.json").read_bytes())
        document = '\n{ "url": "https://example.com/foo" }\n'
        assert first == {"test": f"Test{name}", "comment": "expected failure: a  see https://example.com/a", "expect": "fail", "document": document}
        assert second == {"test": f"Test{name}", "comment": "good", "expect": "pass", "document": '{"c":1}'}
        assert third == {"test": "TestOther", "comment": "", "expect": "fail", "document": "x"}
