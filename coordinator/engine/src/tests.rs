//! The coordinator from outside: commands in, effects out, on real keys and certificates.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod admins;
mod enrolment;
mod expiry;
mod laws;
mod links;
mod policy;
mod renewal;
mod restore;
mod revocation;
mod scene;
