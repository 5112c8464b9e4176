# Login role ${instance}-act: makes one-deploy child tokens and ends them; by itself it can only ask a target for its status.

path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
