"""`pingee-builder run`: build one commit in the sandbox, sign what we know of it, submit it. Tokens come in files, never as arguments.

Exit status: 0 the stage passed; 1 no verdict (bad document, unknown commit, no sandbox, refused submission, usage); 3 build or tests
failed. A failed test stage is still signed and submitted; a failed build has no artifact to speak about.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from gatekeeper.hidden import hide_memory
from gatekeeper.model.digest import MalformedDigest, parse_digest
from gatekeeper.model.strictjson import JsonValue

from . import forward, workspace
from .fault import BuildFailed, BuildFault
from .identity import ClaimedRun, claimed_run, read_token
from .run import Acceptance, Delivery, Order, Report, execute
from .statement import Deployment, Verdict
from .submit import Instance, check_instance

PASSED: Final = 0
NO_VERDICT: Final = 1
FAILED: Final = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """The console command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    with contextlib.suppress(BrokenPipeError):
        sys.exit(_run(options, given))


def _run(options: argparse.Namespace, given: list[str]) -> int:
    hide_memory()
    url = ""
    try:
        order, delivery = _read(options)
        here = str(os.stat("/proc/self/ns/mnt").st_ino)  # noqa: PTH116
        if options.inside in {None, here}:
            workspace.enter_namespace([*given, f"--inside={here}"])
        _yield_memory()
        os.umask(0o022)
        signal.signal(signal.SIGTERM, _terminated)

        def announce(log_url: str) -> None:
            nonlocal url
            url = log_url
            print(f"pingee-builder: live log at {log_url}", file=sys.stderr, flush=True)

        report = execute(order, delivery, announce=announce)
    except BuildFault as fault:
        return _end(fault, options, url)
    except OSError as error:
        # The worker's own disk, or the directory of --out; what the build itself fills is bounded and has its own words.
        sentence = f"the worker's disk cannot be used: {error.strerror or type(error).__name__}"
        return _end(BuildFault("storage-unavailable", sentence), options, url)
    except KeyboardInterrupt:
        print("pingee-builder: stopped", file=sys.stderr)
        return NO_VERDICT
    _show(report, options.output)
    return PASSED if report.verdict is Verdict.PASSED else FAILED


def _end(fault: BuildFault, options: argparse.Namespace, url: str) -> int:
    print(f"pingee-builder: {fault}", file=sys.stderr)
    if options.output == "json":
        _print_json({"ok": False, "code": fault.code, "detail": fault.sentence, "log_url": url})
    return FAILED if isinstance(fault, BuildFailed) else NO_VERDICT


def _yield_memory() -> None:
    # Processes of a build are bounded one by one, not in sum: where memory runs out, the kernel ends them and not what stands beside us.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000\n", "ascii")


def _terminated(*_arguments: object) -> NoReturn:
    raise KeyboardInterrupt


def _read(options: argparse.Namespace) -> tuple[Order, Delivery | None]:
    delivery = None if options.no_submit else _delivery(options)
    identity = _identity(options, delivery)
    order = Order(
        repository=options.repository,
        public=options.repository_name or options.repository,
        ref=options.ref or identity.ref or "HEAD",
        identity=identity,
        builder=options.builder_id,
        acceptance=_acceptance(options) if options.stage == "acceptance" else None,
        enforced=tuple(options.enforce),
        most_s=options.max_timeout,
        bounds=workspace.Bounds(size=options.workspace_mib * 2**20, files=options.workspace_files),
        out=options.out,
    )
    return order, delivery


def _identity(options: argparse.Namespace, delivery: Delivery | None) -> ClaimedRun:
    if delivery is None:
        return ClaimedRun(options.project or "local", options.commit, "local", options.ref or "")
    claimed = claimed_run(delivery.certificate_token)
    for instance in delivery.instances:
        other = claimed_run(instance.token)
        if (other.project, other.commit, other.run) != (claimed.project, claimed.commit, claimed.run):
            raise BuildFault("usage", f"the token for {instance.name} is of another run than the certificate token")
    if claimed.commit != options.commit:
        raise BuildFault("usage", f"the run's token is for commit {claimed.commit}, not for {options.commit}")
    if options.project and options.project != claimed.project:
        raise BuildFault("usage", f"the run's token is for project {claimed.project}, not for {options.project}")
    return claimed


def _delivery(options: argparse.Namespace) -> Delivery:
    instances = tuple(_instance(text) for text in options.instance)
    named = {instance.name: instance for instance in instances}
    if len(named) != len(instances):
        raise BuildFault("usage", "two --instance have one name")
    if options.certificate_from not in named or options.certificate_token_file is None:
        raise BuildFault("usage", "give --instance, --certificate-from one of them, and --certificate-token-file; or --no-submit")
    return Delivery(instances, named[options.certificate_from], read_token(options.certificate_token_file))


def _instance(text: str) -> Instance:
    name, _, rest = text.partition("=")
    parts = rest.split(",")
    if not name or len(parts) != 3:
        raise BuildFault("usage", "--instance is NAME=URL,CAFILE,TOKENFILE")
    check_instance(name, parts[0])
    return Instance(name, parts[0], Path(parts[1]), read_token(Path(parts[2])))


def _acceptance(options: argparse.Namespace) -> Acceptance:
    if not (options.artifact and options.acceptance and options.receipt and options.page):
        raise BuildFault("usage", "--stage acceptance needs --artifact, --acceptance, --page and --receipt")
    try:
        artifact, receipt = parse_digest(options.artifact), parse_digest(options.receipt)
    except MalformedDigest as error:
        raise BuildFault("usage", f"--artifact and --receipt: {error}") from None
    return Acceptance(artifact, forward.parse_target(options.acceptance), Deployment(options.page, receipt))


def _show(report: Report, output: str) -> None:
    document: dict[str, JsonValue] = {
        "ok": report.verdict is Verdict.PASSED,
        "stage": report.stage.value,
        "result": report.verdict.value,
        "reason": report.reason,
        "component": report.component,
        "builder": report.builder,
        "plan": report.plan,
        "tree": report.tree,
        "artifact": report.artifact,
        "log": report.log,
        "log_url": report.log_url,
        "milliseconds": dict(report.milliseconds),
        "statements": {name: str(digest) for name, digest in report.statements.items()},
        "submitted": list(report.submitted),
    }
    if output == "json":
        _print_json(document)
        return
    print(f"{report.stage.value}: {report.verdict.value}" + (f" ({report.reason})" if report.reason else ""))
    print(f"artifact {report.artifact}")
    if report.submitted:
        print("submitted to " + ", ".join(report.submitted))


def _print_json(document: dict[str, JsonValue]) -> None:
    print(json.dumps({"apiVersion": "pingee/v1", "kind": "Run", **document}, ensure_ascii=True))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Usage errors end with 1; argparse's 2 means something else to our callers."""
        self.print_usage(sys.stderr)
        self.exit(NO_VERDICT, f"pingee-builder: usage: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pingee-builder", description="Build in a sandbox, sign what is known, submit it.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="run one stage of one commit", allow_abbrev=False)
    add: Any = run.add_argument
    add("repository", metavar="REPO", help="directory or https:// URL")
    add("commit", metavar="COMMIT", help="full commit id")
    add("--repository-name", metavar="URI", help="the repository's public name in statements (default: REPO)")
    add("--project", help="must be the project that the run's token claims")
    add("--ref", help="for example refs/heads/main (default: the token's claim)")
    add("--stage", choices=("commit", "acceptance"), default="commit")
    add("--acceptance", metavar="URL", help="acceptance stage: the one target, http://HOST:PORT")
    add("--artifact", metavar="DIGEST", help="acceptance stage: what is deployed there")
    add("--receipt", metavar="DIGEST", help="acceptance stage: the test deployment's receipt")
    add("--page", metavar="URL", help="acceptance stage: the test deployment's page")
    add("--instance", metavar="NAME=URL,CAFILE,TOKENFILE", action="append", default=[], help="submit here; repeatable")
    add("--certificate-from", metavar="NAME", help="the instance that relays the certificate")
    add("--certificate-token-file", metavar="FILE", type=Path, help="the run's token for certificates, mode 0600")
    add("--no-submit", action="store_true", help="build only; statements stay unsigned")
    add("--builder-id", default="https://localhost/builder", help="builder id of unsigned statements (signed ones take the certificate's)")
    add("--out", metavar="DIR", type=Path, help="leave statements, artifact and log here")
    add("--enforce", metavar="COMMAND", action="append", default=[], help="a test added by release engineering; repeatable")
    add("--max-timeout", metavar="SECONDS", type=int, default=3600, help="the most a stage may take (default 3600)")
    add("--workspace-mib", metavar="MIB", type=int, default=512, help="bytes a build may write (default 512)")
    add("--workspace-files", metavar="COUNT", type=int, default=50_000, help="files a build may make (default 50000)")
    add("-o", "--output", choices=("text", "json"), default="text")
    add("--inside", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
