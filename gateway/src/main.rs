//! The program `weft`.

mod config;
mod edge;

fn main() {}
