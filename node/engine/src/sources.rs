//! How often one source may knock when we are under load, once it has proved its address: a single flooding address
//! uses up its own share and nothing else.
//!
//! A table of fixed size: an address owns the fuller of two buckets that a keyed hash picks, so a flood from
//! many addresses has to hit both of an honest peer's buckets to be in its way. A source is an IPv4 address
//! or an IPv6 /64, because one host owns a whole /64.

use crate::bucket::{Bucket, Rate};
use crate::limits::SOURCE_BUCKETS;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// Token buckets by source.
#[derive(Debug)]
pub(crate) struct Sources {
    rate: Rate,
    buckets: Box<[Bucket]>,
    hasher: RandomState,
}

impl Sources {
    /// With so many for each source.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: vec![Bucket::default(); SOURCE_BUCKETS].into(), hasher: RandomState::new() }
    }

    /// Whether `source` may be heard now; charges it.
    pub(crate) fn admit(&mut self, source: IpAddr, mono: Duration) -> bool {
        let rate = self.rate;
        self.bucket(source, mono).take(rate, mono)
    }

    /// Whether [`Sources::admit`] would say yes.
    pub(crate) fn would_admit(&mut self, source: IpAddr, mono: Duration) -> bool {
        let rate = self.rate;
        self.bucket(source, mono).level(rate, mono) > 0
    }

    fn bucket(&mut self, source: IpAddr, mono: Duration) -> &mut Bucket {
        let prefix = match source {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            // The upper half; tagged by its own nature: no global IPv6 /64 is below 2^32.
            IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
        };
        let hash = self.hasher.hash_one(prefix);
        let first = hash as usize % SOURCE_BUCKETS;
        let second = (hash >> 32) as usize % SOURCE_BUCKETS;
        let mut level = |at: usize| self.buckets[at].level(self.rate, mono);
        let fuller = if level(first) >= level(second) { first } else { second };
        &mut self.buckets[fuller]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{SOURCE_BURST, SOURCE_REFILL};

    const RATE: Rate = Rate { burst: SOURCE_BURST, refill: SOURCE_REFILL };

    #[test]
    fn one_flooding_source_uses_up_only_its_own_share() {
        let mut sources = Sources::new(RATE);
        let at = Duration::from_secs(5);
        let admitted = (0..10_000).filter(|_| sources.admit([192, 0, 2, 1].into(), at)).count();
        // Two buckets at most.
        assert!(admitted <= 2 * SOURCE_BURST as usize, "{admitted}");
        let honest = (0..100u8).filter(|&i| sources.admit([198, 51, 100, i].into(), at)).count();
        assert!(honest >= 99, "{honest}");
    }

    #[test]
    fn addresses_of_one_64_share() {
        let mut sources = Sources::new(RATE);
        let at = Duration::from_secs(5);
        let admitted = (0..1000u16)
            .filter(|&i| sources.admit(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, i).into(), at))
            .count();
        assert!(admitted <= 2 * SOURCE_BURST as usize, "{admitted}");
    }
}
