//! Numbers that nobody else can guess, without asking the machine for randomness: a keyed function of the
//! tunnel key and the time, counted on.

use bulkhead_identity::Now;
use ring::hmac;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of such numbers, for one purpose.
pub(crate) struct Draw {
    key: hmac::Key,
    drawn: AtomicU64,
}

impl Draw {
    /// Sources for different purposes are independent of each other.
    pub(crate) fn new(tunnel_secret: &[u8; 32], purpose: &[u8], now: Now) -> Self {
        let parent = hmac::Key::new(hmac::HMAC_SHA256, tunnel_secret);
        let mut context = hmac::Context::with_key(&parent);
        context.update(purpose);
        context.update(&now.wall.0.to_be_bytes());
        context.update(&now.mono.as_nanos().to_be_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref());
        Self { key, drawn: AtomicU64::new(0) }
    }

    /// The next one.
    pub(crate) fn next(&self) -> u64 {
        let count = self.drawn.fetch_add(1, Ordering::Relaxed);
        let tag = hmac::sign(&self.key, &count.to_be_bytes());
        tag.as_ref().iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}
