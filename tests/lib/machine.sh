# What a fresh Debian machine lacks for the tests. Everything that is there already is left as it is.
# shellcheck shell=bash

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Installs packages without letting any of them start a service: a cluster of PostgreSQL's own is not wanted here. Where the
# machine has a policy of its own for that, it stands.
install_packages() {
  local policy=/usr/sbin/policy-rc.d ours='' status=0
  say "installing: $*"
  if [ ! -e "$policy" ]; then
    ours=1
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  as_root apt-get update -qq || say "the lists of packages could not be renewed; going on with those that are here"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@" >"$work/packages.log" 2>&1 || status=$?
  [ -z "$ours" ] || as_root rm -f "$policy"
  ((status == 0)) || { tail -n 20 "$work/packages.log" >&2; die "packages could not be installed: $*"; }
}

# The folder of PostgreSQL's programs; the newest, where there are several.
postgres_programs() {
  find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -t/ -k5,5n | tail -n 1 | xargs -r dirname
}

prepare_machine() {
  local missing=()
  command -v cargo >/dev/null || die "cargo is missing: install Rust by rustup; rust-version in Cargo.toml says which one"
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v curl >/dev/null || missing+=(curl ca-certificates)
  command -v jq >/dev/null || missing+=(jq)
  command -v unshare >/dev/null || missing+=(util-linux)
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
  command -v chromium >/dev/null || missing+=(chromium)
  command -v psql >/dev/null || missing+=(postgresql-client)
  [ -n "$(postgres_programs)" ] || missing+=(postgresql-15)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

# prepare_python FOLDER: an environment in FOLDER/.venv of what FOLDER/requirements.txt pins; made once for each content.
prepare_python() {
  local folder=$1 stamp
  stamp=$(sha256sum "$folder/requirements.txt" | cut -d' ' -f1)
  [ "$(cat "$folder/.venv/made-from" 2>/dev/null)" = "$stamp" ] && return
  rm -rf "$folder/.venv"
  python3 -m venv "$folder/.venv"
  "$folder/.venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$folder/requirements.txt"
  echo "$stamp" >"$folder/.venv/made-from"
}

# prepare_node FOLDER: what FOLDER/package-lock.json pins, in FOLDER/node_modules; installed once for each content.
prepare_node() {
  local folder=$1 stamp
  stamp=$(sha256sum "$folder/package-lock.json" | cut -d' ' -f1)
  [ "$(cat "$folder/node_modules/.made-from" 2>/dev/null)" = "$stamp" ] && return
  npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error
  echo "$stamp" >"$folder/node_modules/.made-from"
}

prepare_clients() {
  prepare_node "$root/tests/outside/node"
  prepare_node "$root/tests/outside/answers"
  prepare_node "$root/tests/outside/browser"
  prepare_python "$root/tests/outside/python"
}
