"""The data beside the code is found in a source tree and in an installed wheel."""

import pytest

from gatekeeper import shipped


def test_vault_policies_are_found_in_the_source_tree():
    assert shipped.vault_policies().is_dir()


@pytest.mark.parametrize("name", ["", ".", "..", "../gatekeeper", "a/b", "a\\b", "no-such-example"])
def test_what_is_no_example_is_refused(name):
    with pytest.raises(shipped.NotShipped, match="no example is called"):
        shipped.example(name)


def test_an_example_is_a_directory_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "examples" / "hello").mkdir(parents=True)
    (tmp_path / "examples" / "file").write_text("not a directory")
    (tmp_path / "gatekeeper").mkdir()
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "gatekeeper")
    assert shipped.example("hello").name == "hello"
    with pytest.raises(shipped.NotShipped):
        shipped.example("file")


def test_the_wheels_own_copy_comes_first(tmp_path, monkeypatch):
    for directory in ("gatekeeper/examples/inside", "examples/beside"):
        (tmp_path / directory).mkdir(parents=True)
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "gatekeeper")
    assert shipped.example("inside").name == "inside"
    with pytest.raises(shipped.NotShipped):
        shipped.example("beside")


def test_an_incomplete_installation_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "gatekeeper")
    with pytest.raises(shipped.NotShipped, match="vault-policies is missing"):
        shipped.vault_policies()
