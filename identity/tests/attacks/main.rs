//! What a hostile peer, coordinator or file could show us, and that we refuse it. Tests name the attack
//! (08-attacks.md) that they answer.
#![allow(clippy::unwrap_used, missing_docs)]

mod certificates;
mod deployment;
mod drafts;
mod forged;
mod keys;
mod names;
mod revocations;
mod seals;
mod signed;
mod trust;
