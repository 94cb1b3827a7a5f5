//! The edge from outside: a real server on a free port before a small graph.

mod http;
mod server;
mod socket;
mod stream;
mod token;
mod toy;
