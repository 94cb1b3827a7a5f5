# Sourced by the scripts beside this folder: phases with their durations, things to undo at the end, servers in the background.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
# All that a run leaves behind while it runs; gone at its end. Open to be passed through, so that PostgreSQL's own user can.
work=$(mktemp -d "${TMPDIR:-/tmp}/weft-tests.XXXXXX")
chmod 711 "$work"

say() { printf '%s\n' "$*"; }
die() { printf 'failed: %s\n' "$*" >&2; exit 1; }

# Cargo's own colours only where somebody looks, and no moving bars in a log.
if [ -z "${CARGO_TERM_COLOR-}" ]; then
  if [ -t 1 ]; then export CARGO_TERM_COLOR=always; else export CARGO_TERM_COLOR=never; fi
fi
export CARGO_TERM_PROGRESS_WHEN=never
# What a person at this machine has set for a server of his own is not for these; how often the suite kills its server is.
for variable in "${!WEFT_@}" "${!OPENAI_@}" "${!ANTHROPIC_@}" "${!GEMINI_@}" "${!AZURE_@}" "${!OLLAMA_@}"; do
  [[ $variable == WEFT_KILL* ]] || unset "$variable"
done

# phase NAME COMMAND...: runs it, in this shell, and says how long it took. The first one that fails ends the script.
durations=()
phase() {
  local name=$1 began=$SECONDS
  shift
  say "── $name"
  "$@"
  durations+=("$(printf '%5d s  %s' $((SECONDS - began)) "$name")")
  say "── $name: $((SECONDS - began)) s"
}

# Process ids of the servers that run, in the order in which they were started, each with the signal that ends it.
servers=()

# serve SIGNAL LOG COMMAND...: in the background, until `stop` or the end of the script. Its id is then in $server.
serve() {
  local signal=$1 log=$2
  shift 2
  "$@" >"$log" 2>&1 </dev/null &
  server=$!
  servers+=("$server:$signal")
}

# stop ID [SIGNAL]: asks a server to end, and after 30 s makes it.
stop() {
  local id=$1 signal=${2:-TERM} end=$((SECONDS + 30))
  kill "-$signal" "$id" 2>/dev/null || true
  while kill -0 "$id" 2>/dev/null && ((SECONDS < end)); do sleep 0.05; done
  kill -KILL "$id" 2>/dev/null || true
  wait "$id" 2>/dev/null || true
}

finish() {
  local status=$? at
  trap - EXIT
  for ((at = ${#servers[@]} - 1; at >= 0; at--)); do
    stop "${servers[at]%%:*}" "${servers[at]##*:}"
  done
  if ((status)) && [ -n "${show_on_failure-}" ]; then
    for log in "$work"/*.log "$work"/*/*.log; do
      [ -s "$log" ] && { say "── the end of ${log##*/}"; tail -n 40 "$log"; }
    done
  fi
  rm -rf "$work"
  ((${#durations[@]} == 0)) || { say; printf '%s\n' "${durations[@]}"; }
  ((status)) && say "failed after $SECONDS s" || say "passed in $SECONDS s"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# await SECONDS WHAT COMMAND...: until the command succeeds; fails when $server has died or the time is over.
await() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || die "$what ended instead of starting"
    ((SECONDS < end)) || die "$what did not start in time"
    sleep 0.05
  done
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
