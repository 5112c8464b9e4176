# Login role ${instance}-log: one key that signs checkpoints, one record that remembers the last.

path "transit/sign/${instance}-deploylog" {
  capabilities        = ["update"]
  required_parameters = ["key_version"]
  denied_parameters   = { "hash_algorithm" = [], "prehashed" = [], "context" = [], "signature_algorithm" = [], "batch_input" = [] }
}

path "transit/keys/${instance}-deploylog" {
  capabilities = ["read"]
}

# Check-and-set is demanded by the key's metadata (cas_required), which this role cannot reach. Not by required_parameters = ["options"]:
# the vault holds a read against that too, and refuses it.
path "kv/data/${instance}/deploylog/head" {
  capabilities = ["create", "update", "read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
