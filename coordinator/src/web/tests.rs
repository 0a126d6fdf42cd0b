//! A browser goes through the pages; who it meets behind them is made up here. The pages word for word are in
//! `snapshots/`.
#![allow(clippy::unwrap_used)]

mod acted;
mod attacks;
mod walks;
