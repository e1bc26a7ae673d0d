//! Sessions of a real relay over real links: one file per part of the protocol.
#![allow(missing_docs, clippy::unwrap_used)]

mod bad_input;
mod doorbell_tls;
mod everywhere;
mod hanging;
mod hello;
mod instances;
mod limits;
mod limits_connections;
mod log;
mod mailbox;
mod member;
mod operator;
mod push;
mod removal;
mod retention;
mod slow;
mod stopping;
mod subscribe;
mod support;
#[path = "../store_postgres/tls_cluster.rs"]
mod tls_cluster;
