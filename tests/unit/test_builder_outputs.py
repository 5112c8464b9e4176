import os
import socket
import tarfile
from pathlib import Path

import pytest

from builder.fault import BuildFailed
from builder.outputs import Bounds, assemble, extract
from builder.pipeline import RunDeclared
from builder.statement import Source
from clients.doorkeeper import artifact
from gatekeeper.model.digest import digest_of


@pytest.fixture
def src(tmp_path):
    root = tmp_path / "src"
    (root / "out/deep").mkdir(parents=True)
    (root / "out/greeter").write_bytes(b"#!/bin/sh\n")
    (root / "out/greeter").chmod(0o700)
    (root / "out/deep/data").write_bytes(b"data")
    return root


def test_the_layer_is_deterministic_and_bound_to_its_bytes(src, tmp_path):
    blob, outputs = extract(src, ["out"], tmp_path / "one.tar", Bounds())
    os.utime(src / "out/greeter", (1, 1))
    again, _ = extract(src, ["out/greeter", "out"], tmp_path / "two.tar", Bounds())
    assert blob.digest == again.digest == digest_of((tmp_path / "one.tar").read_bytes())
    with tarfile.open(tmp_path / "one.tar") as tar:
        members = [(m.name, m.mode, m.mtime, m.uid, m.gid, m.uname, m.isdir()) for m in tar]
    assert members == [
        ("out", 0o755, 0, 0, 0, "", True),
        ("out/deep", 0o755, 0, 0, 0, "", True),
        ("out/deep/data", 0o644, 0, 0, 0, "", False),
        ("out/greeter", 0o755, 0, 0, 0, "", False),
    ]
    assert [(o.path, o.size, o.digest) for o in outputs] == [
        ("out/deep/data", 4, digest_of(b"data")),
        ("out/greeter", 10, digest_of(b"#!/bin/sh\n")),
    ]


def make_symlink(root):
    (root / "out/x").symlink_to("/etc/passwd")


def make_hard_link(root):
    (root / "out/x").hardlink_to(root / "out/greeter")


def make_pipe(root):
    os.mkfifo(root / "out/x")


def make_socket(root):
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(root / "out")
    try:
        listener.bind("x")
    finally:
        os.chdir(here)
        listener.close()


def make_directory_link(root):
    (root / "elsewhere").mkdir()
    (root / "out/x").symlink_to("../elsewhere", target_is_directory=True)


def make_newline(root):
    (root / "out/a\nb").write_bytes(b"")


def make_bytes(root):
    (root / os.fsdecode(b"out/\xff")).write_bytes(b"")


@pytest.mark.parametrize("make", [make_symlink, make_hard_link, make_pipe, make_socket, make_directory_link, make_newline, make_bytes])
def test_links_pipes_and_odd_names_are_refused(src, tmp_path, make):
    make(src)
    with pytest.raises(BuildFailed) as refused:
        extract(src, ["out"], tmp_path / "layer.tar", Bounds())
    assert refused.value.code == "output-refused"


def test_a_linked_parent_is_refused(src, tmp_path):
    (src / "link").symlink_to("out")
    with pytest.raises(BuildFailed) as refused:
        extract(src, ["link/greeter"], tmp_path / "layer.tar", Bounds())
    assert refused.value.code == "output-refused"


def test_a_missing_or_empty_output_is_said(src, tmp_path):
    with pytest.raises(BuildFailed, match="output-missing: the build made no 'out/nothing'"):
        extract(src, ["out/nothing"], tmp_path / "a.tar", Bounds())
    (src / "empty").mkdir()
    with pytest.raises(BuildFailed, match="output-missing: the artifact's paths hold no file"):
        extract(src, ["empty"], tmp_path / "b.tar", Bounds())


def test_the_artifact_is_bounded(src, tmp_path):
    with pytest.raises(BuildFailed, match="more than 2 files"):
        extract(src, ["out"], tmp_path / "a.tar", Bounds(entries=2))
    with pytest.raises(BuildFailed, match="larger than 0 MiB"):
        extract(src, ["out"], tmp_path / "b.tar", Bounds(size=13))
    extract(src, ["out"], tmp_path / "c.tar", Bounds(size=14))


def test_two_commits_never_share_an_artifact(src, tmp_path):
    layer, outputs = extract(src, ["out"], tmp_path / "a.tar", Bounds())
    run = RunDeclared(("out/greeter", "{port}"), "/healthz", 10)
    made = [
        assemble(component="hello", run=run, source=Source("https://git.demo/hello", "main", commit, "b" * 40), layer=layer, outputs=outputs)
        for commit in ("a" * 40, "c" * 40)
    ]
    assert made[0].layer.digest == made[1].layer.digest
    assert made[0].manifest.digest != made[1].manifest.digest


def test_the_doorkeeper_reads_what_we_assemble(src, tmp_path):
    layer, outputs = extract(src, ["out"], tmp_path / "a.tar", Bounds())
    source = Source("https://git.demo/hello", "main", "a" * 40, "b" * 40)
    made = assemble(component="hello", run=RunDeclared(("x",), "/", 10), source=source, layer=layer, outputs=outputs)
    contents = artifact.parse_manifest(made.manifest.source)
    assert (contents.config.digest, contents.layer.digest) == (digest_of(made.config.source), layer.digest)
    assert artifact.parse_config(made.config.source).component == "hello"
