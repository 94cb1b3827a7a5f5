# The product as a stranger uses it: the binary with a provider beside it, driven by published clients and by the README.
# shellcheck shell=bash

# start_provider PROGRAM: the scripted model provider; its base address is then in $provider_url.
start_provider() {
  serve TERM "$work/provider.log" "$1"
  await 30 "the scripted provider" grep -q '^LISTENING ' "$work/provider.log"
  provider_url=http://$(sed -n 's/^LISTENING //p' "$work/provider.log")
}

# start_weft BINARY FOLDER [NAME=VALUE...]: in an empty folder on a free port; its base address is then in $weft_url.
start_weft() {
  local binary=$1 folder=$2
  shift 2
  mkdir -m 700 "$folder"
  # Its data folder is in the working folder, as for everybody.
  serve TERM "$folder/weft.log" env -C "$folder" -u WEFT_KILLS -u WEFT_KILL_SEED \
    WEFT_LISTEN=127.0.0.1:0 WEFT_OUTBOUND_ALLOW=127.0.0.1/32 "$@" "$binary"
  await 60 weft test -s "$folder/weft-data/address"
  weft_url=http://$(sed 's#^http://##; s#/$##' "$folder/weft-data/address")
  await 60 weft curl --silent --fail "$weft_url/ready"
}

# What a server on PostgreSQL must be given: a database of its own and a key.
postgres_settings() {
  local name=$1
  psql --no-psqlrc --quiet --dbname="$postgres_url" --command="create database $name"
  settings=("WEFT_DATABASE_URL=${postgres_url%/*}/$name" "WEFT_SECRET_KEY=$(head -c 32 /dev/urandom | base64)")
}

drive_with_node() { WEFT_URL=$weft_url PROVIDER_URL=$provider_url node "$root/tests/outside/node/main.mjs"; }
drive_with_python() { WEFT_URL=$weft_url PROVIDER_URL=$provider_url "$root/tests/outside/python/.venv/bin/python" "$root/tests/outside/python/main.py"; }

# outside BINARY: all of it, on both databases.
outside() {
  local binary=$1 database server_id
  [ -n "${provider_url-}" ] || start_provider "$(dirname "$binary")/scripted-provider"
  for database in sqlite postgres; do
    settings=()
    [ "$database" = sqlite ] || postgres_settings outside
    start_weft "$binary" "$work/outside-$database" "${settings[@]}"
    server_id=$server
    phase "npm graphql-ws on $database" drive_with_node
    phase "Python gql on $database" drive_with_python
    stop "$server_id"
  done
  start_weft "$binary" "$work/readme"
  server_id=$server
  phase "the README's commands" "$root/tests/outside/readme" "$weft_url"
  stop "$server_id"
}
