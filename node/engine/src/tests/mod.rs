//! Attacks that have to fail, by a peer that holds a certified tunnel key and sends whatever it likes. The
//! numbers in test names and comments are those of design/08-attacks.md.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

mod attacker;
#[path = "../../tests/engine/craft.rs"]
mod craft;
#[path = "../../tests/engine/domain.rs"]
mod domain;
mod filtering;
mod floods;
mod fragments;
mod handshakes;
mod idle;
mod merging;
mod packets;
mod path_mtu;
mod runs;
mod sources;
