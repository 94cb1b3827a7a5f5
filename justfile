# What is done daily; `just` lists it.

_:
    @just --list --unsorted

# starts the server in this folder
run *arguments:
    cargo run --release -- {{arguments}}

# everything, as the continuous check does it
test:
    tests/run

# one crate's tests
unit crate *arguments:
    cargo test -p {{crate}} {{arguments}}

# the suite from outside alone, on SQLite
it *filter:
    cargo build -p weft -p support && cargo test -p it -- {{filter}}

# what a commit must pass
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# formats all of it
fmt:
    cargo fmt --all

# writes the SDL that `schema` holds the code to
schema:
    cargo run -- schema > schema/schema.graphql.new && mv schema/schema.graphql.new schema/schema.graphql

# licences, sources and bans
deny:
    cargo deny check

# the same with the release binary, and the figures
bench:
    tests/release
