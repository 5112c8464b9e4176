"""`adapters.git_policy` over real git and ssh-keygen: only signed, linear, forward history from the pinned root is loaded."""

from __future__ import annotations

import subprocess

import pytest

from gatekeeper.adapters.git import open_git
from gatekeeper.adapters.git_policy import PolicyOrigin, open_policy_source
from gatekeeper.model.digest import digest_of
from gatekeeper.model.evidence import Absent, Present
from gatekeeper.model.verified import Refusal
from gatekeeper.policy.load import MAX_FILE, PolicyError
from gatekeeper.ports.errors import Unavailable
from tests.fakes.foreign_signers import FakeKey
from tests.fakes.git_repositories import EMPTY_ENVIRONMENT, Repository, make_key, signers_line

pytestmark = pytest.mark.anyio

# The smallest policy that parses: nobody, nothing, nowhere.
FILES = {
    "policy.toml": 'instance = "production"\nanonymous = "public"\n',
    "people.toml": "[people]\n",
    "roles.toml": "role = []\n",
    "issuers.toml": "[issuers]\n",
    "builders.toml": "[builders]\n",
}


class House:
    """A policy repository with one owner, and what an installation pins of it."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.owner = make_key(directory, "owner")
        self.stranger = make_key(directory, "stranger")
        self.repository = Repository(directory / "policy")
        self.signers = signers_line("owner@example.org", self.owner)
        self.root = self.commit(FILES | {"allowed_signers": self.signers}, "root")
        self.now = 0.0

    def commit(self, files, message="change", *, key=None) -> str:
        return self.repository.commit(files, message, key=key or self.owner)

    def origin(self, **changes) -> PolicyOrigin:
        pinned = {"root": self.root, "signers": self.signers.encode()}
        members = {"remote": str(self.repository.path), "branch": "main", "instance": "production"} | pinned
        return PolicyOrigin(**(members | changes))

    def clock(self) -> float:
        self.now += 1
        return self.now

    async def open(self, last_loaded=None, **changes):
        return await open_policy_source(open_git(self.directory / "state"), self.origin(**changes), clock=self.clock, last_loaded=last_loaded)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def signature_of(text: str, key, namespace: str, directory) -> str:
    (directory / "raw").write_text(text)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key), str(directory / "raw")]
    subprocess.run(command, check=True, capture_output=True, env=EMPTY_ENVIRONMENT)
    signature = directory / "raw.sig"
    text = signature.read_text().strip()
    signature.unlink()
    return text


async def refused(source, code: str) -> str:
    before = source.current()
    with pytest.raises(PolicyError) as caught:
        await source.refresh()
    assert caught.value.code == code
    assert source.current() is before
    return str(caught.value)


async def test_the_signed_tip_is_loaded_and_a_newer_one_after_it(house):
    source = await house.open()
    assert (source.loaded, source.current().instance) == (house.root, "production")
    assert await source.refresh() is False
    second = house.commit({"policy.toml": 'instance = "production"\nanonymous = "none"\n'})
    assert await source.refresh() is True
    assert source.loaded == second
    assert source.current().anonymous_reads is False


async def test_an_unsigned_commit_is_refused_and_so_is_what_stands_on_it(house):
    source = await house.open()
    house.repository.commit({"a.txt": "unsigned"})
    assert "not signed with an SSH key" in await refused(source, "config-unreviewed")
    house.commit({"b.txt": "signed, on top"})
    await refused(source, "config-unreviewed")
    with pytest.raises(PolicyError) as caught:
        await (await house.open(last_loaded=house.root)).refresh()
    assert caught.value.code == "config-unreviewed"


async def test_a_strangers_signature_is_refused(house):
    source = await house.open()
    house.commit({"a.txt": "x"}, key=house.stranger)
    assert "not signed by an owner" in await refused(source, "config-unreviewed")


async def test_a_stranger_cannot_let_himself_in_with_the_same_commit(house):
    source = await house.open()
    house.commit({"allowed_signers": signers_line("stranger@example.org", house.stranger)}, key=house.stranger)
    await refused(source, "config-unreviewed")


async def test_a_new_owner_counts_from_the_commit_after_the_one_that_names_him(house):
    source = await house.open()
    house.commit({"allowed_signers": signers_line("stranger@example.org", house.stranger)})
    assert await source.refresh() is True
    second = house.commit({"a.txt": "by the new owner"}, key=house.stranger)
    assert await source.refresh() is True
    assert source.loaded == second
    house.commit({"b.txt": "by the old owner"}, key=house.owner)
    await refused(source, "config-unreviewed")
    # and a fresh start verifies each commit by its own parent again
    assert (await house.open(last_loaded=second)).loaded == second


async def test_without_allowed_signers_nobody_may_follow(house):
    source = await house.open()
    (house.repository.path / "allowed_signers").unlink()
    house.commit({})
    assert await source.refresh() is True
    house.commit({"a.txt": "x"})
    assert "nobody may follow it" in await refused(source, "config-unreviewed")


async def test_a_signature_for_another_namespace_is_refused(house, tmp_path):
    source = await house.open()
    unsigned = house.repository.commit({"a.txt": "x"})
    raw = house.repository.git("cat-file", "commit", unsigned) + "\n"
    for namespace, code in (("file", "config-unreviewed"), ("git", None)):
        signature = signature_of(raw, house.owner, namespace, tmp_path).replace("\n", "\n ")
        head, _, message = raw.partition("\n\n")
        (tmp_path / "signed").write_text(f"{head}\ngpgsig {signature}\n\n{message}")
        commit = house.repository.git("hash-object", "-t", "commit", "-w", str(tmp_path / "signed"))
        house.repository.git("update-ref", "refs/heads/main", commit)
        if code:
            await refused(source, code)
        else:
            assert await source.refresh() is True


async def test_an_altered_commit_under_a_good_signature_is_refused(house, tmp_path):
    source = await house.open()
    signed = house.commit({"a.txt": "x"}, "good words")
    raw = house.repository.git("cat-file", "commit", signed) + "\n"
    (tmp_path / "altered").write_text(raw.replace("good words", "evil words"))
    commit = house.repository.git("hash-object", "-t", "commit", "-w", str(tmp_path / "altered"))
    house.repository.git("update-ref", "refs/heads/main", commit)
    await refused(source, "config-unreviewed")


async def test_a_merge_is_refused(house):
    source = await house.open()
    house.repository.git("checkout", "-q", "-b", "side")
    house.commit({"side.txt": "x"})
    house.repository.git("checkout", "-q", "main")
    house.commit({"main.txt": "x"})
    sign = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={house.owner}"]
    house.repository.git(*sign, "merge", "-q", "--no-ff", "-S", "-m", "merge", "side")
    assert "is a merge" in await refused(source, "config-unreviewed")


async def test_going_back_is_refused_also_after_a_restart(house):
    second = house.commit({"a.txt": "2"})
    source = await house.open()
    assert source.loaded == second
    house.repository.git("reset", "-q", "--hard", house.root)
    await refused(source, "config-rewound")
    again = await house.open(last_loaded=second)
    assert again.loaded == second
    other = house.commit({"a.txt": "another second"})
    assert other in await refused(again, "config-rewound")


async def test_a_mirror_that_was_lost_does_not_let_the_past_back_in(house):
    house.repository.git("reset", "-q", "--hard", house.root)
    with pytest.raises(PolicyError) as caught:
        await house.open(last_loaded="1" * 40)
    assert caught.value.code == "config-rewound"


async def test_another_root_is_refused(house, tmp_path):
    with pytest.raises(PolicyError) as caught:
        await house.open(root="1" * 40)
    assert caught.value.code == "config-unreviewed"
    assert "pinned first commit" in str(caught.value)


async def test_the_root_is_signed_by_the_pinned_signers(house):
    with pytest.raises(PolicyError) as caught:
        await house.open(signers=signers_line("stranger@example.org", house.stranger).encode())
    assert caught.value.code == "config-unreviewed"
    with pytest.raises(PolicyError) as caught:
        await house.open(signers=b"")
    assert caught.value.code == "config-unreviewed"


async def test_what_does_not_parse_or_is_for_another_instance_is_refused(house):
    source = await house.open()
    house.commit({"policy.toml": "instance = "})
    await refused(source, "config-invalid")
    house.commit({"policy.toml": 'instance = "test"\nanonymous = "public"\n'})
    assert "for the instance test" in await refused(source, "config-invalid")
    fixed = house.commit(FILES)
    assert await source.refresh() is True
    assert source.loaded == fixed


async def test_a_builders_signer_that_holds_no_such_trust_is_refused(house):
    source = await house.open()
    builder = '[builders."https://ci.demo/builder"]\nissuer = "ci"\nprojects = []\nsigner = "key:ours"\n'
    issuer = '[issuers.ci]\nkind = "run"\nurl = "https://ci.demo"\njwks_url = "https://ci.demo/keys"\nalgorithms = ["ES256"]\n'
    house.commit({"builders.toml": builder, "issuers.toml": issuer, "ours.pem": "no key"})
    said = await refused(source, "config-invalid")
    assert "builders.toml: https://ci.demo/builder: the key file is not one PEM public key" in said
    fixed = house.commit({"ours.pem": FakeKey().pem.decode()})
    assert await source.refresh() is True
    assert source.loaded == fixed


async def test_links_submodules_and_large_files_are_refused(house):
    source = await house.open()
    (house.repository.path / "people.link").symlink_to("/etc/passwd")
    house.commit({})
    assert "link or a submodule" in await refused(source, "config-invalid")
    (house.repository.path / "people.link").unlink()
    house.repository.git("update-index", "--add", "--cacheinfo", f"160000,{house.root},sub")
    sign = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={house.owner}"]
    house.repository.git("rm", "-q", "--cached", "people.link")
    house.repository.git(*sign, "commit", "-q", "-S", "-m", "submodule")
    assert "link or a submodule" in await refused(source, "config-invalid")
    house.repository.git("rm", "-q", "--cached", "sub")
    house.commit({"large.txt": "x" * (MAX_FILE + 1)})
    assert "bytes" in await refused(source, "config-invalid")


async def test_configuration_is_read_from_verified_commits_alone(house):
    first = house.commit({"config/production/hello.toml": '[values]\nGREETING = "hello"\n'})
    source = await house.open()
    house.commit({"config/production/hello.toml": '[values]\nGREETING = "bye"\n'})
    broken = house.commit({"config/production/bad.toml": "x = "})
    second = house.commit({"config/production/bad.toml": ""})
    await source.refresh()
    found = await source.configuration(first, "production", "hello")
    assert isinstance(found, Present)
    assert found.value.values == {"GREETING": "hello"}
    newer = await source.configuration(second, "production", "hello")
    assert isinstance(newer, Present)
    assert newer.value.values == {"GREETING": "bye"}
    none = await source.configuration(house.root, "production", "hello")
    assert isinstance(none, Present)
    assert none.value.values == {}
    assert found.digests == (digest_of(b'[values]\nGREETING = "hello"\n'),) == (found.value.digest,)
    bad = await source.configuration(broken, "production", "bad")
    assert isinstance(bad, Present)
    assert isinstance(bad.value, Refusal)
    assert bad.value.reason == "config-invalid"
    mended = await source.configuration(second, "production", "bad")
    assert isinstance(mended, Present)
    assert mended.digests == (digest_of(b""),)
    house.repository.commit({"config/production/hello.toml": '[values]\nGREETING = "unsigned"\n'})
    unsigned = house.repository.git("rev-parse", "HEAD")
    with pytest.raises(PolicyError):
        await source.refresh()
    assert await source.configuration(unsigned, "production", "hello") == Absent()
    assert await source.configuration("--help", "production", "hello") == Absent()


async def test_a_commit_beside_the_branch_or_not_loaded_yet_is_no_configuration(house):
    source = await house.open()
    house.repository.git("checkout", "-q", "-b", "side")
    beside = house.commit({"config/production/hello.toml": '[values]\nGREETING = "beside"\n'})
    house.repository.git("checkout", "-q", "main")
    newer = house.commit({"config/production/hello.toml": '[values]\nGREETING = "newer"\n'})
    assert await source.configuration(newer, "production", "hello") == Absent()
    await source.refresh()
    assert isinstance(await source.configuration(newer, "production", "hello"), Present)
    assert await source.configuration(beside, "production", "hello") == Absent()


@pytest.mark.parametrize("text", ["x = ", '[values]\nLD_PRELOAD = "x"\n', 'secrets = ["PYTHONPATH"]\n', '[values]\nPATH = "/tmp"\n', "[values]\nA = 1\n"])
async def test_a_configuration_that_could_not_be_installed_is_never_loaded(house, text):
    source = await house.open()
    house.commit({"config/production/hello.toml": text})
    detail = await refused(source, "config-invalid")
    assert detail.startswith("config/production/hello.toml: ")


async def test_a_remote_that_is_away_keeps_the_policy_in_force(house):
    second = house.commit({"a.txt": "x"})
    source = await house.open()
    house.repository.path.rename(house.directory / "moved")
    with pytest.raises(Unavailable, match="config-unavailable"):
        await source.refresh()
    assert source.loaded == second
    assert (await house.open(last_loaded=second)).loaded == second
    with pytest.raises(Unavailable, match="config-unavailable"):
        await house.open()


async def test_nothing_is_left_in_the_state_directory_but_configuration_and_mirrors(house):
    await house.open()
    assert sorted(path.name for path in (house.directory / "state").iterdir()) == ["gitconfig", "mirrors"]
