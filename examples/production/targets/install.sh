#!/bin/sh
# The doorkeeper of the target @{target}, run on that host by root. It asks nobody and fetches nothing: beside this file lie
#   log-policy    made of the vault's @{instance}.vkey (README.md, step 4)
#   receipt.pem   the vault's @{instance}-receipt.pem
#   override-keys lines `NAME ed25519 BASE64`, the public halves of `pingee key new`: who may bring back a release when all else is down; three people at least
#   user-ca.pub   the vault's @{instance}-ssh-ca.pub
# handed over by people, not by the gatekeeper: who pins what the gatekeeper says trusts the gatekeeper.
set -eu
cd "$(dirname "$0")"

# The account that deploys here. It has no shell: its login shell is the doorkeeper itself.
useradd --system --no-create-home --home-dir /var/lib/pingee-doorkeeper --shell "$(command -v pingee-doorkeeper)" @{account}

# Every component that may run here, with the port it listens on (--component may be given again).
pingee-doorkeeper install --target @{target} --instance @{instance} --environment @{environment} \
  --component CHANGE-ME=8080 --log-policy log-policy --receipt-keys receipt.pem --override-keys override-keys
install -m 0644 user-ca.pub /etc/pingee-doorkeeper/user-ca.pub
chown -R root:root /etc/pingee-doorkeeper && chmod 0755 /etc/pingee-doorkeeper
chown -R @{account}:@{account} /var/lib/pingee-doorkeeper

# sshd takes the vault's certificates for this account, and nothing else for it.
install -m 0644 /etc/pingee-doorkeeper/sshd_config.snippet /etc/ssh/sshd_config.d/pingee-@{target}.conf
sshd -t

pingee-doorkeeper install --check
echo "now: systemctl reload ssh; then hand this line to the gatekeeper's operators for host_keys of [targets.@{target}]:"
cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub
