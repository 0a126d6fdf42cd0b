//! The coordinator's rim: it performs what the engine decides. Files, sockets, clocks and threads are here;
//! who may do what is not (that is `bulkhead-coordinator-engine`).
//!
//! | module | concept |
//! |---|---|
//! | [`driver`] | the one thread that owns engine and journal: persisted first, performed after |
//! | [`engine`] | the way to it |
//! | [`journal`] | the source of truth on disk |
//! | [`store`] | a snapshot that can be rebuilt (sled) |
//! | [`boot`] | from a state directory to a coordinator |
//! | [`api`], [`https`], [`socket`] | requests, by network and by unix socket |
//! | [`control`], [`link`], [`tls`] | control links to nodes |
//! | [`sso`], `people` | sign-in at the company's identity providers |
//! | [`web`] | pages for people who sign in |
//! | [`init`], [`issuer`], [`backup`], [`serve`] | what the commands do |
//!
//! It is a library only so that tests can run a whole coordinator in their own process.

pub mod api;
pub mod backup;
pub mod boot;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
mod device_flow;
pub mod driver;
pub mod engine;
pub mod https;
pub mod init;
pub mod issuer;
pub mod journal;
pub mod link;
mod people;
pub mod process;
mod rarely;
mod room;
pub mod serve;
pub mod socket;
pub mod sso;
pub mod state_dir;
pub mod stop;
pub mod store;
pub mod tls;
pub mod web;
