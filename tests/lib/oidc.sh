# OpenID providers for the Rust suite: each of its tests makes one of its own.
# shellcheck shell=bash

oidc_folder=$root/tests/outside/oidc

# start_oidc: the harness; its address is then in $oidc_url.
start_oidc() {
  local port
  prepare_node "$oidc_folder"
  port=$(free_port)
  serve TERM "$work/oidc.log" node "$oidc_folder/provider.mjs" "$port"
  await 30 "the harness of OpenID providers" grep -q '^LISTENING' "$work/oidc.log"
  oidc_url=http://127.0.0.1:$port
}
