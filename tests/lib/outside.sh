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

# drive_with_node BINARY [POSTGRES_URL]: each file has a server of its own, so that one may be killed or filled up.
drive_with_node() {
  WEFT_BINARY=$1 POSTGRES_URL=${2-} node --test --test-concurrency=8 --test-reporter=spec "$root"/tests/outside/node/*.test.mjs
}
drive_with_python() { WEFT_URL=$weft_url PROVIDER_URL=$provider_url "$root/tests/outside/python/.venv/bin/python" "$root/tests/outside/python/main.py"; }
# drive_with_schemathesis LOG: a minute of what the schema allows; the log is of a server with limits at which it is read.
drive_with_schemathesis() {
  WEFT_URL=$weft_url PROVIDER_URL=$provider_url "$root/tests/outside/python/.venv/bin/python" "$root/tests/outside/python/from_schema.py"
  ! grep --max-count=5 'panicked at\| ERROR ' "$1" || die "the server's log tells of faults"
}
answers_of_graphql_js() { node "$root/tests/outside/answers/main.mjs"; }
# fuzz BINARY: half a minute of almost valid requests and frames; it starts a server itself. `fuzz 600` beside the binary for more.
fuzz() { WEFT_BIN=$1 "$(dirname "$1")/fuzz" 30; }
# drive_with_browser LINK: the link to set up another server, one that asks for a token.
drive_with_browser() { WEFT_URL=$weft_url PROVIDER_URL=$provider_url SETUP_LINK=$1 node "$root/tests/outside/browser/main.mjs"; }

# What stands in the page's `dist/` must be what its sources make: nobody can read the one, and everybody gets it.
page_as_committed() {
  local page=$root/gateway/page
  prepare_node "$page"
  npm run --silent --prefix "$page" check
  node --test --test-reporter=dot "$page/test.mjs"
  node "$page/build.mjs" "$work/page"
  diff --recursive --brief "$work/page" "$page/dist" || die "gateway/page/dist is not what gateway/page/build makes"
}

# outside BINARY: all of it, on both databases.
outside() {
  local binary=$1 database cluster server_id link_id
  [ -n "${provider_url-}" ] || start_provider "$(dirname "$binary")/scripted-provider"
  for database in sqlite postgres; do
    settings=() cluster=''
    [ "$database" = sqlite ] || { postgres_settings outside; cluster=$postgres_url; }
    phase "clients from npm on $database" drive_with_node "$binary" "$cluster"
    start_weft "$binary" "$work/outside-$database" "${settings[@]}"
    server_id=$server
    phase "Python gql on $database" drive_with_python
    stop "$server_id"
  done
  phase "graphql-js's answers" answers_of_graphql_js
  phase "almost valid requests and frames" fuzz "$binary"
  start_weft "$binary" "$work/schemathesis" WEFT_LIMITS__{COST_BUCKET,COST_RESTORE_PER_S,ADDRESS_COST_BUCKET}=1000000000
  server_id=$server
  phase "Schemathesis" drive_with_schemathesis "$work/schemathesis/weft.log"
  stop "$server_id"
  # Behind a proxy nobody is seen to stand at the machine.
  start_weft "$binary" "$work/link" WEFT_TRUSTED_PROXIES=10.0.0.0/8
  link_id=$server
  await 30 "the link to set it up" grep -q '#setup=' "$work/link/weft.log"
  start_weft "$binary" "$work/browser"
  server_id=$server
  phase "the page in Chromium" drive_with_browser "$(grep -o 'http://[^ ]*#setup=[^ ]*' "$work/link/weft.log")"
  stop "$server_id"
  stop "$link_id"
  start_weft "$binary" "$work/readme"
  server_id=$server
  phase "the README's commands" "$root/tests/outside/readme" "$weft_url"
  stop "$server_id"
}
