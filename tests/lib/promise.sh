# The schema as third parties build on it: lints and breaking changes, then a client that was generated from it.
# shellcheck shell=bash

promise_folder=$root/tests/outside/promise

prepare_promise() { prepare_node "$promise_folder"; }

# What needs no server: the rules themselves on schemas with a fault each, then the committed schema.
keep_promise() {
  node --test "$promise_folder/lint.test.mjs" "$promise_folder/breaking.test.mjs" >"$work/promise.log" 2>&1 ||
    { grep -A 20 '^not ok' "$work/promise.log"; die "the checks of the schema do not see what they are for"; }
  node "$promise_folder/lint.mjs"
  node "$promise_folder/breaking.mjs"
}

# From the introspection of a server to a client that compiles and does the main job there.
generated_client() {
  WEFT_URL=$1 node "$promise_folder/told.mjs"
  node "$promise_folder/generate.mjs" "$1"
  "$promise_folder/node_modules/.bin/tsc" --project "$promise_folder/client"
  WEFT_URL=$1 timeout 60 node "$promise_folder/client/built/main.js"
}

# promise BINARY: all of it.
promise() {
  local server_id
  phase "clients of the schema from npm" prepare_promise
  phase "graphql-eslint and graphql-inspector" keep_promise
  start_weft "$1" "$work/promise"
  server_id=$server
  phase "a client by graphql-codegen" generated_client "$weft_url"
  stop "$server_id"
}
