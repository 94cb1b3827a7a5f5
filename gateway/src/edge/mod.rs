//! The edge: HTTP and WebSocket in front of a graph.
//!
//! Responsible for everything that can be told without knowing the schema: media types, sizes, the form of requests and
//! documents, which documents are trusted, who may knock (Host, Origin, forwarding headers), the `graphql-transport-ws` protocol,
//! streams over HTTP, fairness and back-pressure on a socket. Knows no type of the graph, no table and no credential: those are [`Graph`]'s.

mod answer;
mod client;
mod document;
mod graph;
mod http;
mod listen;
mod media;
mod oidc;
mod origin;
mod refused;
mod request;
mod roots;
mod scrape;
mod socket;
mod stall;
mod stream;
#[cfg(test)]
mod tests;
mod token;
mod trusted;

pub use client::counted_as;
pub use graph::{Client, Credentials, Event, Graph, Operation, Told, Transport};
#[cfg(test)]
pub use http::Times;
pub use http::{Edge, Settings};
pub use listen::{Listener, serve, serve_pages};
pub use refused::{Code, Refused};
pub use scrape::{Readers, Scrape};
pub use token::{Grant, Granted, Issuer};
