"""An instance of sigstore of our own, of which one thing at a time is wrong (attack matrix, rows 16, 24, 26 to 30 and 33 to 35)."""

import base64
import copy
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from sigstore._internal.tuf import TrustUpdater

from clients.cli.main import main
from gatekeeper.model.digest import digest_of
from gatekeeper.model.moment import later
from gatekeeper.model.verified import Refusal, Verified
from gatekeeper.verify.attestation import Artifact, Keyless, Pinned, verify_attestation
from gatekeeper.verify.checks import Outcome
from gatekeeper.verify.dsse import pae
from gatekeeper.verify.errors import MalformedBundle, MalformedKey
from gatekeeper.verify.managedkey import parse_managed_key
from gatekeeper.verify.sigstoreroot import parse_sigstore_root
from gatekeeper.verify.submission import verify_submission
from tests.fakes import foreign_bundles, signing
from tests.fakes.sigstore_instance import (
    ARTIFACT,
    IDENTITY,
    IN_TOTO,
    ISSUER,
    NOW,
    SIGNED,
    Instance,
    authority_of,
    b64,
    dsse_body,
    log_of,
    new_key,
    sha_1,
    statement,
)

HONEST, STRANGER = Instance(), Instance()
GOOD = HONEST.bundle()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def root_of(document: dict):
    return parse_sigstore_root(json.dumps(document).encode())


def verify(bundle, root=None, *, at=NOW):
    parsed = root_of(root or HONEST.root())
    return verify_attestation(json.dumps(bundle).encode(), Keyless(IDENTITY, ISSUER, parsed), Artifact({"sha256": ARTIFACT}), at=at)


def failed(report) -> tuple[str, str]:
    assert isinstance(report.result, Refusal)
    (check,) = [check for check in report.checks if check.outcome is Outcome.FAILED]
    return check.name.value, report.result.reason


def changed(change, bundle=GOOD):
    document = copy.deepcopy(bundle)
    change(document["verificationMaterial"])
    return document


def test_what_is_whole_is_verified():
    assert isinstance(verify(GOOD).result, Verified)
    for gone in ("inclusionPromise", "timestampVerificationData"):  # one trusted time is enough
        less = changed(lambda material, gone=gone: (material.pop(gone, None), material["tlogEntries"][0].pop(gone, None)))
        assert isinstance(verify(less).result, Verified)


# row 16


def test_row_16_a_subjects_name_identifies_nothing_and_its_digest_everything():
    """The same digest under another name is this artifact; this name on another digest is another one."""
    other = [{"name": "another", "digest": {"sha256": ARTIFACT}}]
    assert isinstance(verify(HONEST.bundle(statement(subject=other))).result, Verified)
    swapped = [{"name": "hello", "digest": {"sha256": "cd" * 32}}, {"name": ARTIFACT, "digest": {"sha256": "ef" * 32}}]
    assert failed(verify(HONEST.bundle(statement(subject=swapped)))) == ("subject", "digest-mismatch")


# rows 24 and 26: certificate and CT log


def test_row_24_a_certificate_of_a_stranger_with_the_authoritys_name_leads_nowhere():
    assert failed(verify(HONEST.bundle(ca=STRANGER.ca))) == ("path", "unknown-builder")
    assert failed(verify(STRANGER.bundle(), HONEST.root()))[1] == "unknown-builder"


def test_row_24_a_root_that_is_brought_along_is_refused():
    old = changed(lambda material: material.update(x509CertificateChain={"certificates": [material.pop("certificate"), {"rawBytes": b64(HONEST.authority)}]}))
    old["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"
    assert failed(verify(old)) == ("path", "unknown-builder")


@pytest.mark.parametrize(
    "certificate",
    [{"scts": 0}, {"scts": 2}, {"ct": STRANGER.ct}, {"ct": HONEST.log}, {"sct_of": HONEST.certificate(new_key())}, {"sct_of": STRANGER.certificate(new_key())}],
    ids=["none", "two", "a stranger's", "the wrong log's", "another certificate's", "a stranger's certificate's"],
)
def test_row_26_the_certificate_has_one_sct_of_a_ct_log_of_the_root_for_itself(certificate):
    assert failed(verify(HONEST.bundle(**certificate))) == ("transparency", "unknown-builder")


def test_row_26_a_key_of_the_ct_log_that_is_not_the_roots():
    assert failed(verify(GOOD, HONEST.root(ctlogs=[log_of(STRANGER.ct)]))) == ("transparency", "unknown-builder")
    assert isinstance(verify(GOOD, HONEST.root(ctlogs=[log_of(STRANGER.ct), log_of(HONEST.ct)])).result, Verified)


# rows 27 to 29: time


def test_row_27_an_expired_certificate_has_no_time_but_a_trusted_one():
    bare = changed(lambda material: (material.pop("timestampVerificationData"), material["tlogEntries"][0].pop("inclusionPromise")))
    assert failed(verify(bare)) == ("time", "certificate-expired")
    assert failed(verify(bare, at=SIGNED)) == ("time", "certificate-expired")  # nor is "now" a time of signing


@pytest.mark.parametrize(("second", "good"), [(-61, False), (-60, True), (540, True), (541, False)])
def test_rows_27_and_28_the_certificate_is_valid_for_its_ten_minutes_and_not_a_second_longer(second, good):
    report = verify(HONEST.bundle(seconds=second))
    if good:
        assert isinstance(report.result, Verified)
    else:
        assert failed(report) == ("validity", "certificate-expired")


def test_row_28_a_timestamp_of_a_stranger_with_its_certificate_embedded_is_none():
    signature = base64.b64decode(GOOD["dsseEnvelope"]["signatures"][0]["sig"])
    for stamped in (STRANGER.timestamp(signature), HONEST.timestamp(signature + b"x"), HONEST.timestamp(b"")):
        beside = changed(lambda material, stamped=stamped: material["timestampVerificationData"]["rfc3161Timestamps"].append({"signedTimestamp": stamped}))
        assert failed(verify(beside)) == ("timestamps", "unknown-builder")


@pytest.mark.parametrize("second", [0, 1])
def test_row_29_a_promise_from_the_future_is_refused_to_the_second(second):
    at = later(SIGNED, seconds=30 - second)
    report = verify(HONEST.bundle(seconds=30), at=at)
    assert isinstance(report.result, Verified) if second == 0 else failed(report) == ("time", "certificate-expired")


# row 30: the log


def checkpoint_of(change):
    def edit(material):
        place = material["tlogEntries"][0]["inclusionProof"]["checkpoint"]
        place["envelope"] = change(place["envelope"])

    return edit


def proof_of(**members):
    return lambda material: material["tlogEntries"][0]["inclusionProof"].update(members)


@pytest.mark.parametrize(
    "change",
    [
        lambda material: material["tlogEntries"][0].pop("inclusionProof"),
        lambda material: material["tlogEntries"][0]["inclusionProof"].pop("checkpoint"),
        checkpoint_of(lambda text: text.replace("log.example\n", "evil.example\n", 1)),
        checkpoint_of(lambda text: text.partition("\n")[2]),
        checkpoint_of(lambda text: text.partition("\n\n")[0] + "\n\n"),
        checkpoint_of(lambda text: text[:-8] + "AAAA" + text[-4:]),
        checkpoint_of(lambda text: text.replace("— log.example ", "— log.example AAAA")),
        proof_of(rootHash=b64(b"r" * 32)),
        proof_of(hashes=[]),
        proof_of(hashes=[b64(b"h" * 32)]),
        proof_of(logIndex="0"),
        proof_of(logIndex="2"),
        proof_of(treeSize="1"),
        proof_of(treeSize="3"),
        lambda material: material["tlogEntries"][0].update(canonicalizedBody=b64(HONEST.bodies[0])),
    ],
    ids=["no proof", "no checkpoint", "origin", "no origin line", "no signature", "signature", "key hint", "root", "short path", "other path", "index", "index after the tree", "tree before the index", "size", "body"],
)
def test_row_30_the_entry_stands_in_the_log_that_the_root_names(change):
    assert failed(verify(changed(change))) == ("inclusion", "bad-signature")


def test_row_30_another_logs_proof_is_none_though_it_holds_there():
    elsewhere = changed(lambda material: material.update(tlogEntries=STRANGER.bundle()["verificationMaterial"]["tlogEntries"]))
    assert failed(verify(elsewhere)) == ("inclusion", "bad-signature")


def test_row_31_an_entry_counts_once_since_there_is_one():
    """No threshold is counted: a bundle has one entry, so the same twice, or two of two logs, is no bundle."""
    (one,), (other,) = (bundle["verificationMaterial"]["tlogEntries"] for bundle in (GOOD, STRANGER.bundle()))
    for entries in ([one, one], [one, other]):
        with pytest.raises(MalformedBundle, match="/verificationMaterial/tlogEntries: has more than 1 items"):
            verify(changed(lambda material, entries=entries: material.update(tlogEntries=entries)))


# row 33: the trusted root is a pinned file. There is no TUF client to freeze, roll back or feed.


@pytest.mark.parametrize(
    ("kind", "check"),
    [("tlogs", "inclusion"), ("ctlogs", "transparency"), ("certificateAuthorities", "path"), ("timestampAuthorities", "timestamps")],
)
def test_row_33_a_root_written_by_an_attacker_verifies_his_authorities_alone(kind, check):
    """Whichever of the four he replaces: what the honest made is refused. So the file is pinned, and its digest is a part of the answer."""
    theirs = HONEST.root(**{kind: STRANGER.root()[kind]})
    assert failed(verify(GOOD, theirs))[0] == check
    assert root_of(theirs).digest != root_of(HONEST.root()).digest
    assert isinstance(verify(STRANGER.bundle(), STRANGER.root()).result, Verified)


def test_row_33_a_stale_root_refuses_what_came_after_it_and_a_rolled_back_one_is_another_file():
    """An authority's end is written when it is replaced: the root before that would still believe it, and is not the file that is pinned."""
    retired = later(SIGNED, seconds=-1).strftime("%Y-%m-%dT%H:%M:%SZ")
    current = HONEST.root(tlogs=[log_of(HONEST.log, validFor={"start": "2026-01-01T00:00:00Z", "end": retired}), log_of(STRANGER.log)])
    assert failed(verify(GOOD, current)) == ("authorities", "unknown-builder") or failed(verify(GOOD, current)) == ("inclusion", "bad-signature")
    before = HONEST.root()
    assert isinstance(verify(GOOD, before).result, Verified)
    assert root_of(before).digest != root_of(current).digest
    newcomer = HONEST.root(certificateAuthorities=[authority_of(STRANGER.authority)])
    assert failed(verify(HONEST.bundle(), newcomer)) == ("path", "unknown-builder")


def test_row_33_no_timestamp_of_an_update_expires_since_there_are_no_updates(monkeypatch):
    def asked(*_arguments, **_options):
        pytest.fail("the update client was asked")

    monkeypatch.setattr(TrustUpdater, "__init__", asked)
    assert isinstance(verify(GOOD, at=later(NOW, seconds=20 * 365 * 86400)).result, Verified)


def test_row_33_a_root_in_a_cache_or_in_the_working_directory_is_nobodys(monkeypatch, tmp_path, capsys):
    """Where the library would keep a root that it fetched, and where a repository could put one: neither is looked at."""
    planted = json.dumps(STRANGER.root()).encode()
    for place in (".local/share/sigstore-python/tuf/https%3A%2F%2Ftuf-repo-cdn.sigstore.dev", ".cache/sigstore-python/tuf", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "trusted_root.json").write_bytes(planted)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("XDG_DATA_HOME", ".local/share"), ("XDG_CACHE_HOME", ".cache")):
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle.json").write_text(json.dumps(STRANGER.bundle()))
    words = ["verify", "bundle", "bundle.json", "--artifact", f"sha256:{ARTIFACT}", "--identity", IDENTITY, "--issuer", ISSUER, "-o", "json"]
    assert main(words) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["trusted_root"] != digest_of(planted)
    assert main([*words, "--trusted-root", str(tmp_path / "trusted_root.json")]) == 0
    assert json.loads(capsys.readouterr().out)["trusted_root"] == digest_of(planted)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: root["tlogs"][0]["publicKey"].pop("validFor"),
        lambda root: root["tlogs"][0]["publicKey"].update(validFor={}),
        lambda root: root["ctlogs"][0]["publicKey"].update(validFor={"start": "2026-01-01T00:00:00+01:00"}),
        lambda root: root["certificateAuthorities"][0].update(validFor={"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}),
        lambda root: root.update(signed={"expires": "2000-01-01T00:00:00Z"}),
        lambda root: root.update(mediaType="application/vnd.dev.sigstore.trustedroot+json;version=9"),
    ],
)
def test_row_33_a_root_that_leaves_open_when_it_holds_is_no_root(spoil):
    document = HONEST.root()
    spoil(document)
    with pytest.raises(MalformedKey, match="trusted root: /"):
        root_of(document)


# rows 34 and 35: the signature itself


@pytest.mark.parametrize("change", [lambda _: [], lambda signatures: signatures * 2, lambda _: [{"sig": ""}]], ids=["none", "two", "empty"])
def test_another_number_of_signatures_than_one_is_refused_as_that(change):  # rows 4 and 5
    document = copy.deepcopy(GOOD)
    document["dsseEnvelope"]["signatures"] = change(document["dsseEnvelope"]["signatures"])
    assert failed(verify(document)) == ("signature", "bad-signature")


def resigned(signature: bytes, *, logged: bool = True):
    """The good bundle of a promise alone with another signature, which the log holds too, or does not."""
    document = changed(lambda material: material.pop("timestampVerificationData"))
    document["dsseEnvelope"]["signatures"] = [{"sig": b64(signature)}]
    if logged:
        certificate = base64.b64decode(document["verificationMaterial"]["certificate"]["rawBytes"])
        body = dsse_body(base64.b64decode(document["dsseEnvelope"]["payload"]), signature, certificate)
        document["verificationMaterial"]["tlogEntries"] = [HONEST.entry(body, "dsse")]
    return document


R, S = utils.decode_dss_signature(base64.b64decode(GOOD["dsseEnvelope"]["signatures"][0]["sig"]))
EDGES = {
    "r 0": utils.encode_dss_signature(0, S),
    "s 0": utils.encode_dss_signature(R, 0),
    "r n": utils.encode_dss_signature(ORDER, S),
    "s n": utils.encode_dss_signature(R, ORDER),
    "r over n": utils.encode_dss_signature(R + ORDER, S),
    "s over n": utils.encode_dss_signature(R, S + ORDER),
    "junk behind": utils.encode_dss_signature(R, S) + b"\x00",
    "r and s side by side": R.to_bytes(32) + S.to_bytes(32),
    "swapped": utils.encode_dss_signature(S, R),
}


@pytest.mark.parametrize("edge", EDGES)
def test_row_34_numbers_at_the_edge_are_no_signature_though_they_were_logged(edge):
    assert failed(verify(resigned(EDGES[edge]))) == ("signature", "bad-signature")


def test_row_34_the_other_s_is_a_signature_of_this_key_and_not_the_one_that_was_logged():
    other = utils.encode_dss_signature(R, ORDER - S)
    assert failed(verify(resigned(other, logged=False))) == ("entry", "bad-signature")
    assert isinstance(verify(resigned(other)).result, Verified)


def pinned(key, signature_of):
    """A pinned key's envelope with a signature made some other way."""
    document = foreign_bundles.bundle(foreign_bundles.envelope(new_key(), foreign_bundles.json.dumps(foreign_bundles.statement()).encode()))
    envelope = {name: document.pop(name) for name in ("payloadType", "payload", "signatures")}
    envelope["signatures"] = [{"sig": b64(signature_of(pae(IN_TOTO, base64.b64decode(envelope["payload"]))))}]
    data = json.dumps({**document, "dsseEnvelope": envelope}).encode()
    signer = Pinned(parse_managed_key(foreign_bundles.pem(key)), None)
    return verify_attestation(data, signer, Artifact({"sha256": foreign_bundles.SHA256}), at=NOW)


def test_row_34_a_key_has_one_hash():
    p384, p521 = new_key(ec.SECP384R1()), new_key(ec.SECP521R1())
    for key, good in ((p384, hashes.SHA384()), (p521, hashes.SHA512())):
        assert isinstance(pinned(key, lambda data, key=key, good=good: key.sign(data, ec.ECDSA(good))).result, Verified)
        assert failed(pinned(key, lambda data, key=key: key.sign(data, ec.ECDSA(hashes.SHA256())))) == ("signature", "bad-signature")


@pytest.mark.parametrize(
    ("scheme", "good"),
    [
        ((padding.PKCS1v15(), hashes.SHA256()), True),
        ((padding.PKCS1v15(), hashes.SHA1()), False),
        ((padding.PKCS1v15(), hashes.SHA512()), False),
        ((padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()), False),
    ],
    ids=["SHA-256", "SHA-1", "SHA-512", "PSS"],
)
def test_row_35_an_rsa_key_has_one_padding_and_one_hash(scheme, good):
    key = rsa.generate_private_key(65537, 2048)
    report = pinned(key, lambda data: key.sign(data, *scheme))
    assert isinstance(report.result, Verified) if good else failed(report) == ("signature", "bad-signature")


@pytest.mark.parametrize("bits", [1024, 2048])
def test_row_35_a_keyless_certificate_for_an_rsa_key_signs_nothing(bits):
    """The library's keyless scheme is ECDSA; its error for any other key is a refusal here."""
    key = rsa.generate_private_key(65537, bits)
    certificate, payload = HONEST.certificate(key), statement()
    signature = key.sign(pae(IN_TOTO, payload), padding.PKCS1v15(), hashes.SHA256())
    document = copy.deepcopy(GOOD)
    document["verificationMaterial"]["certificate"] = {"rawBytes": b64(certificate)}
    document["verificationMaterial"]["tlogEntries"] = [HONEST.entry(dsse_body(payload, signature, certificate), "dsse")]
    document["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": HONEST.timestamp(signature)}]}
    document["dsseEnvelope"] = {"payloadType": IN_TOTO, "payload": b64(payload), "signatures": [{"sig": b64(signature)}]}
    assert failed(verify(document))[1] in {"bad-signature", "unknown-builder"}


class _Sha1Instance(Instance):
    def certificate(self, *arguments, **options):
        return sha_1(super().certificate(*arguments, **options), self.ca)


@pytest.mark.parametrize("weakness", ["RSA-1024", "SHA-1"])
def test_row_35_an_authority_whose_signature_is_sha_1_or_whose_key_is_short_leads_nowhere(weakness):
    """A sigstore instance's authority and a builder CA of ours, each pinned by somebody who should not have."""
    key = rsa.generate_private_key(65537, 1024 if weakness == "RSA-1024" else 2048)
    weak = _Sha1Instance(ca=key) if weakness == "SHA-1" else Instance(ca=key)
    assert failed(verify(weak.bundle(), weak.root())) == ("path", "unknown-builder")
    ours = signing.FakeCa(key=key)
    run = ours.run()
    if weakness == "SHA-1":
        run = replace(run, certificate=sha_1(run.certificate, key))
    refusal = verify_submission(run.sign(signing.manifest_statement()), [ours.root()], received_at=signing.RECEIVED)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "unknown-builder"
    assert refusal.detail in {"the certificate's path to its root does not hold", "no trusted builder root issued the certificate"}


def test_row_35_an_authority_with_a_long_rsa_key_and_sha_256_is_one():
    strong = Instance(ca=rsa.generate_private_key(65537, 2048))
    assert isinstance(verify(strong.bundle(), strong.root()).result, Verified)
