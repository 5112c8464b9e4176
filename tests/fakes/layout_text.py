"""A small LAYOUT.toml that names `ci.pem`, `alice.password` and `hello.toml` beside it."""

GOOD = """
people_issuer = "https://vault.example:8200"
[platform]
issuer = "https://ci.example"
public_key_files = ["ci.pem"]
audiences = ["pingee:certificates:production"]
[[builders]]
id = "https://ci.example/builder"
projects = ["hello"]
[[people]]
name = "alice"
email = "alice@example.com"
groups = ["developers"]
password_file = "alice.password"
[instances.production]
origin = "production.example/log/2026"
environments = ["production"]
[instances.production.targets.web-1]
environment = "production"
principal = "deploy-production"
source_address = "10.0.0.2"
[[instances.production.settings]]
environment = "production"
component = "hello"
values_file = "hello.toml"
"""
