
# Appended to person.hcl for every instance.

path "identity/oidc/token/people-${instance}" {
  capabilities = ["read"]
}
