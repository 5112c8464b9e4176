# What starts gatekeeper processes: mints single-use secret ids, and only wrapped, so that it never sees one.

path "auth/token/renew-self" {
  capabilities = ["update"]
}
