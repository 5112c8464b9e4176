"""What a token or a certificate of a run is good for in the wrong hands: its own project, commit and run, once. And who cannot make one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from builder.signing import Signer
from gatekeeper.adapters.vault import Connection, text_of
from gatekeeper.adapters.vault_relay import login_role
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.ports.errors import Denied, PortError
from gatekeeper.verify.builder import encode_run_urn, read_run_certificate
from gatekeeper.verify.bundle import parse_bundle

from .calls import Called, call
from .git import git
from .pki_paths import PKI_PATHS
from .platform import BUILDER_ID, Run
from .steps import Built, Stage
from .telling import StepFailed, Telling
from .thief import Thief, stolen_replica
from .trees import served_tree
from .world import InstanceWorld

OTHER_PROJECT: Final = "other"
_CERTIFICATES: Final = "/v1/builder-certificates"


def deny_wrong_builder(stage: Stage, telling: Telling, production: InstanceWorld, built: Built) -> None:
    """A run of another project, and certificates that the builder CA never gave."""
    what = "a run of another project gets no certificate for this one, and what is signed under any other certificate is refused"
    with telling.step("deny-wrong-builder", what) as detail, stolen_replica(stage.world, production.name) as thief:
        size = len(served_tree(production).entries)
        stranger = stage.platform.start_run(project=OTHER_PROJECT, commit=built.commit, ref=built.run.ref, actor="mallory")
        names = (BUILDER_ID, encode_run_urn(built.run.project, built.commit, built.run.id))
        audience = f"pingee:certificates:{production.name}"
        token = stage.token(stranger, audience).read_text()
        detail["gatekeeper"] = _demand(_ask_certificate(production, token, _request(_key(), *names)), 422, "unknown-builder")
        detail["vault"] = _demand_vault_refuses(thief, lambda: _log_in(thief, stage.token(stranger, audience).read_text()))
        own = stage.platform.start_run(project=built.run.project, commit=_another_commit(stage, built), ref=built.run.ref, actor="mallory")
        detail["vault_for_other_names"] = _demand_vault_refuses(thief, lambda: _sign_names(thief, stage.token(own, audience).read_text(), names))
        token = stage.token(own, audience).read_text()
        signer = _certified(own, _ask_certificate(production, token, _request(key := _key(), *names)), key)
        detail["names_that_were_asked_for"], detail["names_that_were_given"] = list(names), _names(signer)
        true = parse_bundle(_true_bundle(stage, built))
        payload, certificate = true.envelope.payload, true.certificate or b""
        # Under a certificate of now: that of the build may be ten minutes old here, and would be refused for its age.
        again = stage.platform.start_run(project=built.run.project, commit=built.commit, ref=built.run.ref, actor=built.run.actor)
        token = stage.token(again, audience).read_text()
        honest = _certified(again, _ask_certificate(production, token, _request(key := _key())), key)
        for name, run, bundle, code in (
            ("a_certificate_of_our_own_making", built.run, _self_made(certificate).bundle(payload), "unknown-builder"),
            ("a_true_bundle_with_another_projects_token", stranger, honest.bundle(_with(payload, run=again.id)), "provenance-project"),
            ("a_statement_for_another_project", own, signer.bundle(_with(payload, project=OTHER_PROJECT)), "provenance-project"),
        ):
            detail[name] = _demand(_submit(stage, production, run, bundle), 422, code)
        _demand_nothing_logged(production, size)


def deny_stolen_token(stage: Stage, telling: Telling, production: InstanceWorld, built: Built) -> None:
    """A token taken from a run, and a replica's logins at the builder CA."""
    what = "a token taken from one run makes one certificate, for that run's commit alone; no gatekeeper login reaches the builder CA"
    with telling.step("deny-stolen-token", what) as detail:
        size = len(served_tree(production).entries)
        run = stage.platform.start_run(project=built.run.project, commit=built.commit, ref=built.run.ref, actor=built.run.actor)
        stolen = stage.token(run, f"pingee:certificates:{production.name}").read_text()
        signer = _certified(run, _ask_certificate(production, stolen, _request(key := _key())), key)
        detail["names_that_were_given"] = _names(signer)
        payload = parse_bundle(_true_bundle(stage, built)).envelope.payload
        elsewhere = _with(payload, run=run.id, source={**json.loads(payload)["predicate"]["source"], "commit": _another_commit(stage, built)})
        detail["for_another_commit"] = _demand(_submit(stage, production, run, signer.bundle(elsewhere)), 422, "provenance-commit")
        other = stage.platform.start_run(project=run.project, commit=_another_commit(stage, built), ref=run.ref, actor=run.actor)
        detail["beside_another_runs_token"] = _demand(
            _submit(stage, production, other, signer.bundle(_with(payload, run=run.id))), 422, "provenance-commit"
        )
        detail["a_second_time"] = _demand(_ask_certificate(production, stolen, _request(_key())), 401, "unauthenticated")
        detail["as_a_ping_token"] = _demand(call(production, "/v1/pings", body=b"{}", token=stolen), 401, "unauthenticated")
        _demand_nothing_logged(production, size)
        with stolen_replica(stage.world, production.name) as thief:
            detail |= _demand_no_pki(thief)


def _demand_no_pki(thief: Thief) -> dict[str, Any]:
    """That every path of the builder CA which needs a login refuses every login of ours."""
    logins = {**thief.logins, "supervisor": thief.supervisor}
    for role, connection in logins.items():
        for verb, path in PKI_PATHS:
            if _reaches(connection, verb, path):
                raise StepFailed(f"the login {role} reaches {path}")
    return {"logins": list(logins), "pki_paths": len(PKI_PATHS), "pki_requests_refused": len(logins) * len(PKI_PATHS)}


def _reaches(connection: Connection, verb: str, path: str) -> bool:
    try:
        if verb == "read":
            connection.read(path)
        else:
            connection.write(path, {})
    except Denied:
        return False
    except PortError:
        return True  # whatever else the vault has against it, the policy let it pass
    return True


def _demand_vault_refuses(thief: Thief, ask: Callable[[], object]) -> str:
    # The translated words: the vault's own may repeat the token.
    try:
        ask()
    except PortError as error:
        return error.detail
    raise StepFailed(f"the vault at {thief.supervisor.address.url} gave what it must not")


def _log_in(thief: Thief, token: str) -> Connection:
    """A run's own login at the vault, past the gatekeeper."""
    address = thief.supervisor.address
    anonymous = Connection(address)
    try:
        answer = anonymous.write("auth/platform/login", {"role": login_role(BUILDER_ID), "jwt": token})
        return Connection(address, text_of(answer, "auth", "client_token"))
    finally:
        anonymous.close()


def _sign_names(thief: Thief, token: str, names: tuple[str, str]) -> None:
    login = _log_in(thief, token)
    try:
        login.write("builder-ca/sign/builder", {"csr": _request(_key(), *names), "uri_sans": ",".join(names)})
    finally:
        login.close()


def _ask_certificate(instance: InstanceWorld, token: str, request: str) -> Called:
    return call(instance, _CERTIFICATES, body=encode_canonical({"csr": request}), token=token)


def _certified(run: Run, answer: Called, key: ec.EllipticCurvePrivateKey) -> Signer:
    """What signs under the certificate of an answer. Raises `StepFailed` where it names anything but the run's own token."""
    if answer.status != 201:
        raise StepFailed(f"run {run.id} got no certificate of its own: {answer.status} {answer.code}")
    der = x509.load_pem_x509_certificate(answer.document()["chain"][0].encode()).public_bytes(serialization.Encoding.DER)
    identity = read_run_certificate(der)
    if (identity.builder_id, identity.project, identity.commit, identity.run) != (BUILDER_ID, run.project, run.commit, run.id):
        raise StepFailed(f"a token of run {run.id} made a certificate for {identity}")
    return Signer(key, der, identity)


def _self_made(certificate: bytes) -> Signer:
    """A certificate that says what a true one says, to the letter, and is signed by nobody we know."""
    true, key, now = x509.load_der_x509_certificate(certificate), _key(), datetime.now(UTC).replace(microsecond=0)
    builder = x509.CertificateBuilder().subject_name(true.subject).issuer_name(true.issuer).public_key(key.public_key())
    life = true.not_valid_after_utc - true.not_valid_before_utc
    builder = builder.serial_number(true.serial_number).not_valid_before(now).not_valid_after(now + life)
    for extension in true.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    der = builder.sign(_key(), hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return Signer(key, der, read_run_certificate(der))


def _names(signer: Signer) -> list[str]:
    names = x509.load_der_x509_certificate(signer.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _request(key: ec.EllipticCurvePrivateKey, *names: str) -> str:
    """A certificate request that asks for names."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        wanted = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names])
        builder = builder.add_extension(wanted, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _another_commit(stage: Stage, built: Built) -> str:
    """The newest on main, which is not the one that was built."""
    newest = git("rev-parse", "refs/heads/main", cwd=Path(stage.world.repository_path))
    if newest == built.commit:
        raise StepFailed("there is no other commit on main")
    return newest


def _true_bundle(stage: Stage, built: Built) -> bytes:
    return (stage.out(built.run) / "manifest.bundle.json").read_bytes()


def _with(payload: bytes, **changes: Any) -> bytes:
    """A manifest statement with members of its predicate replaced."""
    statement: dict[str, Any] = json.loads(payload)
    return encode_canonical({**statement, "predicate": {**statement["predicate"], **changes}})


def _submit(stage: Stage, instance: InstanceWorld, run: Run, bundle: bytes) -> Called:
    return call(instance, "/v1/artifacts", body=bundle, token=stage.token(run, f"pingee:{instance.name}").read_text())


def _demand(answer: Called, status: int, code: str) -> Mapping[str, str]:
    """The reason and the words of a refusal that has to be this one."""
    if (answer.status, answer.code) != (status, code):
        raise StepFailed(f"expected {status} {code}, got {answer.status} {answer.code}: {answer.body[:300]!r}")
    return {"refused": code, "words": str(answer.document()["detail"])}


def _demand_nothing_logged(instance: InstanceWorld, size: int) -> None:
    if len(served_tree(instance).entries) != size:
        raise StepFailed(f"refused calls wrote into the log of {instance.name}")
