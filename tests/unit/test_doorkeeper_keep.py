"""Bytes that are kept to be started again: durable before they have their name, hashed again, and let go only when nobody needs them."""

import json
import shutil
from dataclasses import replace

import pytest

from clients.doorkeeper import keep
from clients.doorkeeper.files import Place, Unreadable
from clients.doorkeeper.keep import forget_all_but, is_kept, keep_artifact, open_kept
from clients.doorkeeper.state import ComponentMemory, Outcome, Release
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import digest_hex, digest_of
from tests.fakes.frames import Artifact, make_artifact

NOBODY = digest_of(b"nobody")
MEMORY = ComponentMemory(3, None, NOBODY, Outcome.HEALTHY, "", "c", 4, "2026-11-21T10:00:00Z", None)


@pytest.fixture
def place(tmp_path):
    place = Place.below(tmp_path)
    place.var.mkdir()
    return place


def put(place, artifact, component="hello"):
    (place.var / "layer").write_bytes(artifact.layer)
    keep_artifact(place, component, artifact.manifest, artifact.config, place.var / "layer")
    return place.kept(component, digest_hex(artifact.digest))


def release(artifact):
    return Release(artifact.digest, NOBODY, None, ("x",), "/", 1)


def test_what_is_kept_is_on_the_disk_before_it_has_its_name_and_its_name_after(place, monkeypatch):
    synced = []
    monkeypatch.setattr(keep, "sync_directory", lambda directory: synced.append((directory.name, sorted(file.name for file in directory.iterdir()))))
    folder = put(place, make_artifact())
    whole = ["config.json", "layer.tar", "manifest.json"]
    assert synced == [(f".{folder.name}.new", whole), ("hello", [folder.name])]


def test_what_cannot_be_kept_is_told_and_leaves_nothing(place):
    artifact = make_artifact()
    with pytest.raises(FileNotFoundError):
        keep_artifact(place, "hello", artifact.manifest, artifact.config, place.var / "layer")
    assert not is_kept(place, "hello", artifact.digest)
    assert list(place.kept("hello", "x").parent.iterdir()) == []


def test_what_is_kept_of_another_component_is_not_this_ones(place):
    artifact = make_artifact()
    shutil.copytree(put(place, artifact), place.kept("other", digest_hex(artifact.digest)))
    with pytest.raises(Unreadable, match="the kept config or layer is not the one that the manifest names"):
        open_kept(place, "other", artifact.digest)


def test_a_layer_that_is_gone_is_told_by_its_name(place):
    artifact = make_artifact()
    (put(place, artifact) / "layer.tar").unlink()
    with pytest.raises(Unreadable, match=r"layer\.tar: No such file or directory"):
        open_kept(place, "hello", artifact.digest)


def test_what_was_kept_but_is_no_artifact_is_refused(place):
    good = make_artifact()
    for broken in (
        Artifact(b"{}", good.config, good.layer),
        Artifact(encode_canonical(json.loads(good.manifest) | {"config": _blob(good.manifest, b"{}")}), b"{}", good.layer),
    ):
        put(place, broken)
        with pytest.raises(Unreadable, match=r"the kept artifact: (manifest|config): "):
            open_kept(place, "hello", broken.digest)


def _blob(manifest, config):
    return json.loads(manifest)["config"] | {"digest": digest_of(config), "size": len(config)}


def test_what_runs_and_what_was_adopted_stays_though_no_list_names_it(place):
    runs, adopted, old = (make_artifact(version) for version in "123")
    for artifact in (runs, adopted, old):
        put(place, artifact)
    forget_all_but(place, "hello", replace(MEMORY, healthy=release(runs)), release(adopted))
    assert [is_kept(place, "hello", artifact.digest) for artifact in (runs, adopted, old)] == [True, True, False]
    forget_all_but(place, "hello", MEMORY, None)
    assert not any(is_kept(place, "hello", artifact.digest) for artifact in (runs, adopted))
