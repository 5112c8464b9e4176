# A builder's run, logged in at auth/platform with its CI platform's token: one certificate, named by the token's claims.
# No gatekeeper role has this path.

path "builder-ca/sign/builder" {
  capabilities        = ["update"]
  required_parameters = ["csr", "uri_sans"]
  allowed_parameters  = { "csr" = [], "uri_sans" = [] }
}
