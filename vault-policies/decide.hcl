# Login role ${instance}-decide: the receipt key, and the key that wraps pseudonym keys.

path "transit/sign/${instance}-receipt" {
  capabilities        = ["update"]
  required_parameters = ["key_version"]
  denied_parameters   = { "prehashed" = [], "context" = [], "batch_input" = [] }
}

path "transit/keys/${instance}-receipt" {
  capabilities = ["read"]
}

path "transit/encrypt/${instance}-people" {
  capabilities = ["update"]
}

path "transit/decrypt/${instance}-people" {
  capabilities = ["update"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
