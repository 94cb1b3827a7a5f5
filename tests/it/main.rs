//! The product from outside: the binary as a process, driven over its public wires.
//!
//! `WEFT_TEST_DATABASE` chooses the database (`sqlite`, the default, or the address of a PostgreSQL cluster), `WEFT_BIN` the binary.

mod faults;
mod fences;
mod house;
mod input;
mod kills;
mod main_job;
mod neighbour;
mod scene;
mod statements;
mod tenancy;
