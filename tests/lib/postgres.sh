# A PostgreSQL cluster of the tests' own: on a free port, without a socket file, as somebody who is not root.
# shellcheck shell=bash

# PostgreSQL refuses to run as root. A user namespace, in which root is somebody else, leaves the files root's; where there can
# be none, the package's own user takes its place.
choose_postgres_user() {
  unroot=()
  [ "$(id -u)" = 0 ] || return 0
  if unshare --map-user=1000 --map-group=1000 true 2>/dev/null; then
    unroot=(unshare --map-user=1000 --map-group=1000)
  else
    unroot=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    chown postgres: "$1"
  fi
}

# start_postgres: crash-safe, as a real one. Its address is then in $postgres_url.
start_postgres() {
  local programs folder=$work/postgres port
  programs=$(postgres_programs)
  port=$(free_port)
  mkdir -m 700 "$folder"
  choose_postgres_user "$folder"
  "${unroot[@]}" "$programs/initdb" --pgdata="$folder/data" --username=weft --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
    --no-sync >"$work/initdb.out" 2>&1 || { cat "$work/initdb.out" >&2; die "no cluster could be made"; }
  # 300 connections: each test has a server, and a server a pool.
  serve INT "$work/postgres.log" "${unroot[@]}" "$programs/postgres" -D "$folder/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300
  postgres_url=postgres://weft@127.0.0.1:$port/postgres
  await 60 PostgreSQL "$programs/pg_isready" --quiet --dbname="$postgres_url"
}
