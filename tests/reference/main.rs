//! The policy language a second time, written naively from its description (03-policy.md): no classes, no
//! indexes, no code of `bulkhead_acl`. What the real evaluator answers has to be what this one answers.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

mod calendar;
mod decisions;
mod exposures;
mod generate;
mod permits;
mod policy;
mod questions;
mod real;
mod text;
