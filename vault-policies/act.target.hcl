
# Appended to act.hcl for every target of the instance.

path "auth/token/create/${instance}-deploy-${target}" {
  capabilities       = ["update"]
  allowed_parameters = { "meta" = [], "display_name" = ["deploy"] }
}
