# Login role ${instance}-act: makes one-deploy child tokens, ends them, and reaches nothing by itself.

path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
