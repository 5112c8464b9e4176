import pytest

from builder import forward, vcs
from builder.fault import BuildFault
from builder.namespaces import SANDBOX_UID, no_namespaces, sandbox_uid
from builder.submit import check_instance

WHOLE = "         0          0 4294967295\n"


def test_root_drops_to_an_unallocated_uid_and_others_stay():
    assert sandbox_uid(0, WHOLE) == SANDBOX_UID
    assert sandbox_uid(1000, WHOLE) is None
    assert sandbox_uid(0, "0 1000 1\n") is None
    assert sandbox_uid(0, "0 100000 65536\n") == SANDBOX_UID


@pytest.mark.parametrize(("euid", "uid_map"), [(0, "0 0 1\n"), (1000, "1000 0 1\n"), (1000, "")])
def test_the_kernels_root_never_builds(euid, uid_map):
    with pytest.raises(BuildFault) as refused:
        sandbox_uid(euid, uid_map)
    assert refused.value.code == "sandbox-as-root"


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone"),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns"),
    ],
)
def test_the_setting_that_forbids_is_named(path, value, name):
    fault = no_namespaces(lambda asked: value if asked == path else None)
    assert (fault.code, name in fault.sentence) == ("sandbox-unavailable", True)


def test_without_a_setting_the_kernel_is_named():
    assert "this kernel or container refuses them" in no_namespaces(lambda _path: None).sentence


@pytest.mark.parametrize("url", ["https://127.0.0.1:80", "http://u@h", "http://h?q", "ftp://h", "http://", "http://h:99999"])
def test_a_target_is_plain_http(url):
    with pytest.raises(BuildFault, match="target-invalid"):
        forward.parse_target(url)
    assert forward.parse_target("http://127.0.0.1:8080/app/") == forward.Target("127.0.0.1", 8080, "/app")


@pytest.mark.parametrize("repository", ["ext::sh -c id", "ssh://git@h/r", "http://h/r", "file:///r", "https://u:p@h/r", "--upload-pack=x", "/no"])
def test_odd_repositories_are_refused(repository):
    with pytest.raises(BuildFault, match="repository-unreadable") as refused:
        vcs.check_repository(repository)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://h", "https://u:p@h", "https://h?x=1", "https://"])
def test_an_instance_is_https(url):
    with pytest.raises(BuildFault, match="instance-invalid"):
        check_instance("test", url)
