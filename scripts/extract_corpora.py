"""Takes the documents that the conformance tests read out of public repositories which keep them in Markdown or in tests in Go.

    extract_corpora.py NAME SOURCE DESTINATION

NAME is a corpus, SOURCE the tree of its repository at the commit that fetch-corpora names, DESTINATION a folder for what tests/conformance reads.
Standard library only: it runs before anything is installed.
"""

import json
import re
import sys
from pathlib import Path

_FENCE = re.compile(r"^```(\w+)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_CONSTANT = re.compile(r"^[ \t]*(?:const |var )?(\w+)[ \t]*:?=[ \t]*`([^`]*)`", re.MULTILINE)
_GO = re.compile(
    r"""`(?P<document>[^`]*)` | "(?:[^"\\\n]|\\.)*" | //(?P<comment>.*) | (?P<brace>[{}])
        | func[ ](?P<test>Test\w+) | fail:\s*(?P<fail>true|false)""",
    re.VERBOSE,
)
_SCHEMA_TESTS = {
    "manifest": "manifest",
    "index": "imageindex",
    "descriptor": "descriptor",
    "config": "config",
    "layout": "imagelayout",
    "compat": "backwards_compatibility",
}


def dsse(source: Path, destination: Path) -> None:
    """The one test vector of the protocol: body, payload type, PAE, keys and envelope, each in a fence, in this order."""
    section = (source / "protocol.md").read_text("utf-8").partition("\n## Test Vectors\n")[2]
    body, payload_type, pae, keys, envelope = (text.removesuffix("\n") for _, text in _FENCE.findall(section))
    key = dict(line.split(": ", 1) for line in keys.splitlines())
    vector = {"payload_utf8": body, "payloadType": payload_type, "pae_utf8": pae, "public_x": key["X"], "public_y": key["Y"]}
    _write_json(destination / "vector.json", {**vector, "envelope": json.loads(envelope)})


def in_toto_attestation(source: Path, destination: Path) -> None:
    """Every fence of JSON in the specification, numbered within its page, and every constant of two unit tests; an index says which is which."""
    examples = destination / "spec-examples"
    examples.mkdir()
    index = []

    def put(name: str, page: str, kind: str, text: str) -> None:
        (examples / f"{name}.json").write_text(text, "utf-8", newline="\n")
        index.append({"file": f"{name}.json", "source": page, "kind": kind})

    for path in sorted((source / "spec").rglob("*.md")):
        page = path.relative_to(source).as_posix()
        fences = [text for language, text in _FENCE.findall(path.read_text("utf-8")) if language in ("json", "jsonc")]
        for number, text in enumerate(fences):
            kind = "strict-json" if _is_json(text) else "illustrative (comments/ellipsis)"
            put(f"{page.removesuffix('.md').replace('/', '__')}__{number}", page, kind, text)
    for page in ("go/v1/statement_test.go", "go/v1/resource_descriptor_test.go"):
        for name, text in dict(_CONSTANT.findall((source / page).read_text("utf-8"))).items():
            put(f"unit__{re.sub('[/.]', '_', page)}__{name}", page, f"unit-test constant {name}", text)
    _write_json(destination / "index.json", index)


def oci_image_spec(source: Path, destination: Path) -> None:
    """The documents of the schemas' tests, good and bad."""
    (destination / "cases").mkdir()
    for kind, name in _SCHEMA_TESTS.items():
        _write_json(destination / "cases" / f"{kind}.json", _cases((source / "schema" / f"{name}_test.go").read_text("utf-8")))


def _cases(go: str) -> list[dict[str, str]]:
    """The rows of a Go table of tests that hold a document and say in words whether it fails; a comment stands before its row or in it."""
    cases = []
    test, said, document, fail = "", list[str](), None, None
    for token in _GO.finditer(go):
        match token.lastgroup:
            case "test":
                test, said = token["test"], []
            case "comment":
                said.append(token["comment"].strip())
            case "document":
                document = token["document"]
            case "fail":
                fail = token["fail"]
            case "brace":
                if token["brace"] == "}":
                    if document is not None and fail is not None:
                        cases.append({"test": test, "comment": " ".join(said), "expect": "fail" if fail == "true" else "pass", "document": document})
                    said = []
                document = fail = None
    return cases


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


EXTRACTORS = {"dsse": dsse, "in-toto-attestation": in_toto_attestation, "oci-image-spec": oci_image_spec}

if __name__ == "__main__":
    corpus, tree, folder = sys.argv[1:]
    EXTRACTORS[corpus](Path(tree), Path(folder))
