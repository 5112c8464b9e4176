"""Fresh keys and certificate requests for vault tests."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def openssh():
    return ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def csr(key=None):
    """A request that also asks for a name it must not get."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    hostile = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody else")])
    return x509.CertificateSigningRequestBuilder().subject_name(hostile).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
