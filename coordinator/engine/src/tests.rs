//! The coordinator from outside: commands in, effects out, on real keys and certificates.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod admins;
mod apply;
mod clock;
mod confirm;
mod enrolment;
mod expiry;
mod flows;
mod keys;
mod laws;
mod links;
mod lockout;
mod offline;
mod offloads;
mod policy;
mod refused;
mod reissue;
mod renewal;
mod restore;
mod revocation;
mod scene;
mod seal;
mod slices;
mod stolen;
mod trust;
