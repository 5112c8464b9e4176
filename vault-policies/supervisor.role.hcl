
# Appended to supervisor.hcl for each of the three login roles of every instance.

path "auth/approle/role/${role}/secret-id" {
  capabilities      = ["update"]
  min_wrapping_ttl  = "1s"
  max_wrapping_ttl  = "300s"
  denied_parameters = { "*" = [] }
}

path "auth/approle/role/${role}/role-id" {
  capabilities = ["read"]
}
