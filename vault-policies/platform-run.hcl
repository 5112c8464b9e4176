# A run of one builder and one project, logged in with the token of a platform that has a login method of its own: one certificate, whose
# builder and project the role fixes. No gatekeeper role has this path.

path "builder-ca/sign/${role}" {
  capabilities        = ["update"]
  required_parameters = ["csr", "uri_sans"]
  allowed_parameters  = { "csr" = [], "uri_sans" = [] }
}
