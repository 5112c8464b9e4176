
# Appended to act.hcl for every target of the instance.

path "auth/token/create/${instance}-deploy-${target}" {
  capabilities       = ["update"]
  allowed_parameters = { "meta" = [], "display_name" = ["deploy"] }
}

path "ssh-${instance}/sign/${target}.status" {
  capabilities        = ["update"]
  required_parameters = ["public_key", "valid_principals", "key_id"]
  allowed_parameters  = {
    "public_key"       = []
    "valid_principals" = ["${principal}"]
    "cert_type"        = ["user"]
    "key_id"           = []
    "ttl"              = []
  }
}
