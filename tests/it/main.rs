//! The product from outside: the binary as a process, driven over its public wires.
//!
//! `WEFT_TEST_DATABASE` chooses the database (`sqlite`, the default, or the address of a PostgreSQL cluster), `WEFT_BIN` the binary,
//! `WEFT_TEST_OIDC` the harness of OpenID providers.

mod access;
mod attacks;
mod branches;
mod changes;
mod changes_of_people;
mod compaction;
mod cop;
mod cursors;
mod faults;
mod fences;
mod front_end;
mod fuzz;
mod house;
mod idempotency;
mod input;
mod kills;
mod limits;
mod main_job;
mod matrix;
mod neighbour;
mod oidc;
mod operations;
mod operator;
mod people;
mod rotation;
mod scene;
mod search;
mod sessions;
mod statements;
mod streams;
mod tenancy;
mod timing;
mod tokens;
mod usage;
mod viewers;
mod wall;
