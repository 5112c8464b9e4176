# A person: identity tokens about himself or herself, one audience per instance.

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
