# One-deploy child token of ${instance}-act for the target ${target}: its certificate, and the settings of its environment.

path "ssh-${instance}/sign/${target}" {
  capabilities        = ["update"]
  required_parameters = ["public_key", "valid_principals", "key_id", "critical_options"]
  allowed_parameters  = {
    "public_key"       = []
    "valid_principals" = ["${principal}"]
    "cert_type"        = ["user"]
    "key_id"           = []
    "ttl"              = []
    "critical_options" = []
  }
}

path "kv/data/${instance}/config/${environment}/+" {
  capabilities = ["read"]
}
