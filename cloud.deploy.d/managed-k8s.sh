#!/bin/sh
# Installs the Salt minion: run as root in a folder with minion.pem, minion.pub, minion_master.pub, minion.conf and source.
# `source` may set ARCHIVE and ARCHIVE_SHA256: a ready environment. Without it pip takes what requirements.lock pins, from
# INDEX_URL where that is set.
set -eu
cd "$(dirname "$0")"
. ./source

HOME_OF_SALT=/opt/managed-k8s/salt
# What is there counts only when it was completed, from the same source.
WANTED="${ARCHIVE_SHA256:-$(sha256sum requirements.lock | cut -c1-64)}"

if [ "$(cat "$HOME_OF_SALT/.source" 2>/dev/null || true)" != "$WANTED" ]; then
  rm -rf "$HOME_OF_SALT"
  mkdir -p "$(dirname "$HOME_OF_SALT")"
  if [ -n "${ARCHIVE:-}" ]; then
    curl --fail --silent --show-error --retry 5 --output salt.tar.gz "$ARCHIVE"
    echo "$ARCHIVE_SHA256  salt.tar.gz" | sha256sum --check --quiet
    tar -xzf salt.tar.gz -C "$(dirname "$HOME_OF_SALT")" --no-same-owner
    rm salt.tar.gz
  else
    python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -q && apt-get install -qy python3-venv; }
    python3 -m venv "$HOME_OF_SALT"
    # Hashes are checked, so that an index without TLS does.
    host="${INDEX_URL#*://}"
    "$HOME_OF_SALT/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.lock \
      ${INDEX_URL:+--index-url "$INDEX_URL" --trusted-host "${host%%[:/]*}"}
  fi
  echo "$WANTED" > "$HOME_OF_SALT/.source"
fi

install -d -m 755 /etc/salt /etc/salt/minion.d
install -d -m 700 /etc/salt/pki /etc/salt/pki/minion
install -m 400 minion.pem /etc/salt/pki/minion/minion.pem
install -m 644 minion.pub /etc/salt/pki/minion/minion.pub
# The master that may give orders, so that no other can pretend to be it.
install -m 644 minion_master.pub /etc/salt/pki/minion/minion_master.pub
install -m 644 minion.conf /etc/salt/minion
cat > /etc/systemd/system/salt-minion.service <<UNIT
[Unit]
Description=Salt minion
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart=$HOME_OF_SALT/bin/salt-minion
# Jobs that the minion started (kubeadm) outlive its restart.
KillMode=process
Restart=always
RestartSec=5
LimitNOFILE=8192

[Install]
WantedBy=multi-user.target
UNIT
ln -sf "$HOME_OF_SALT/bin/salt-call" /usr/local/bin/salt-call
systemctl daemon-reload
systemctl enable --quiet salt-minion
systemctl restart --no-block salt-minion
