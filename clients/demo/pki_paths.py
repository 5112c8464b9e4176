"""Every path of the builder CA that asks for a login, as the vault itself lists them; a test holds the list against a running one.

Not here: what the engine shows everybody (its certificate, its revocation list, OCSP), and ACME, which the bootstrap keeps switched off.
"""

from __future__ import annotations

from typing import Final

_READ: Final = (
    "cel/roles cel/roles/builder certs certs/detailed certs/revoked config/acme config/auto-tidy config/cluster config/crl config/issuers "
    "config/keys config/urls crl/rotate crl/rotate-delta eab issuer/default issuers key/default keys roles roles/builder tidy-status"
)
_WRITE: Final = (
    "acme/new-eab cel/issue/builder cel/roles/builder cel/sign/builder config/acme config/auto-tidy config/ca config/cluster config/crl "
    "config/issuers config/keys config/urls intermediate/cross-sign intermediate/generate/internal intermediate/set-signed issue/builder "
    "issuer/default issuer/default/acme/new-eab issuer/default/issue/builder issuer/default/resign-crls issuer/default/revoke "
    "issuer/default/roles/builder/acme/new-eab issuer/default/sign-intermediate issuer/default/sign-revocation-list "
    "issuer/default/sign-self-issued issuer/default/sign-verbatim issuer/default/sign-verbatim/builder issuer/default/sign/builder "
    "issuers/generate/intermediate/internal issuers/generate/root/internal issuers/import/bundle issuers/import/cert key/default "
    "keys/generate/exported keys/generate/internal keys/generate/kms keys/import revoke revoke-with-key roles/builder "
    "roles/builder/acme/new-eab root/generate/internal root/replace root/rotate/internal root/sign-intermediate root/sign-self-issued "
    "sign-verbatim sign-verbatim/builder sign/builder tidy tidy-cancel"
)

PKI_PATHS: Final = tuple(
    (verb, f"builder-ca/{path}") for verb, paths in (("read", _READ), ("write", _WRITE)) for path in paths.split()
)
"""(`read` or `write`, path)"""
