//! Splitting and merging against packets that are written plainly.

#![allow(clippy::unwrap_used)]

mod craft;
mod merging;
mod splitting;
