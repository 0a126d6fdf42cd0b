//! Services and sets of them, as sorted disjoint ranges per protocol.
//!
//! The algebra is exact: `difference` is what subtracts every `never` from a grant, so an off-by-one here
//! would open a port. One set has one representation, hence equality of values is equality of sets.

use std::fmt;

use minicbor::{Decode, Decoder, Encode, Encoder, data::Type, decode, encode};

/// What one packet or flow asks for; direction is client to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// TCP, by destination port.
    Tcp(u16),
    /// UDP, by destination port.
    Udp(u16),
    /// SCTP, by destination port.
    Sctp(u16),
    /// ICMP or ICMPv6 echo.
    Echo,
    /// Any other protocol, by number.
    Ip(u8),
}

/// Most ranges one protocol of one set may have on the wire.
pub const MAX_RANGES: usize = 1024;

/// Most items in one text: what a set of the most ranges prints as.
const MAX_ITEMS: usize = 4 * MAX_RANGES + 1;

impl Service {
    /// Parses one service, not a range: `tcp/5432`, `udp/53`, `icmp`, `ip/47`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "icmp" {
            return Ok(Self::Echo);
        }
        let (protocol, number) = split(text)?;
        if number == "*" || number.contains('-') {
            return Err(format!("{text:?} is a range; name one port, for example {protocol}/443"));
        }
        match protocol {
            "tcp" => Ok(Self::Tcp(port(number)?)),
            "udp" => Ok(Self::Udp(port(number)?)),
            "sctp" => Ok(Self::Sctp(port(number)?)),
            "ip" => Ok(Self::Ip(protocol_number(number)?)),
            other => Err(unknown_protocol(other)),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            Self::Sctp(port) => write!(f, "sctp/{port}"),
            Self::Echo => f.write_str("icmp"),
            Self::Ip(number) => write!(f, "ip/{number}"),
        }
    }
}

impl serde::Serialize for Service {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<Service> for PortSet {
    fn from(service: Service) -> Self {
        let one = |port| Ranges(vec![(port, port)]);
        let mut set = Self::default();
        match service {
            Service::Tcp(port) => set.tcp = one(port),
            Service::Udp(port) => set.udp = one(port),
            Service::Sctp(port) => set.sctp = one(port),
            Service::Echo => set.echo = true,
            Service::Ip(number) => set.ip = one(u16::from(number)),
        }
        set
    }
}

/// A set of services as sorted disjoint ranges per protocol. `default()` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet {
    tcp: Ranges,
    udp: Ranges,
    sctp: Ranges,
    ip: Ranges,
    echo: bool,
}

impl PortSet {
    /// Parses `tcp/443`, `udp/5000-5100`, `tcp/*`, `icmp`, `ip/47`, `any`, or several joined by commas.
    ///
    /// # Errors
    /// A sentence that says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.split(',').nth(MAX_ITEMS).is_some() {
            return Err(format!("more than {MAX_ITEMS} items in one text"));
        }
        let mut set = Self::default();
        for item in text.split(',') {
            set = set.union(&Self::parse_one(item.trim())?);
        }
        Ok(set)
    }

    fn parse_one(text: &str) -> Result<Self, String> {
        match text {
            "any" => return Ok(Self::any()),
            "icmp" => return Ok(Self { echo: true, ..Self::default() }),
            _ => {}
        }
        let (protocol, numbers) = split(text)?;
        let parse: fn(&str) -> Result<u16, String> =
            if protocol == "ip" { |number| protocol_number(number).map(u16::from) } else { port };
        let range = match (numbers, numbers.split_once('-')) {
            ("*", _) => full(if protocol == "ip" { u16::from(u8::MAX) } else { u16::MAX }),
            (_, Some((first, last))) => Ranges::from_to(parse(first)?, parse(last)?, text)?,
            (_, None) => parse(numbers).map(|number| Ranges(vec![(number, number)]))?,
        };
        let mut set = Self::default();
        match protocol {
            "tcp" => set.tcp = range,
            "udp" => set.udp = range,
            "sctp" => set.sctp = range,
            "ip" => set.ip = range,
            other => return Err(unknown_protocol(other)),
        }
        Ok(set)
    }

    /// Every service there is, unknown protocols included.
    #[must_use]
    pub fn any() -> Self {
        let ports = full(u16::MAX);
        Self { tcp: ports.clone(), udp: ports.clone(), sctp: ports, ip: full(u16::from(u8::MAX)), echo: true }
    }

    /// Whether `service` is in the set. `ip/6` and the like never stand for TCP, UDP or SCTP ports.
    #[must_use]
    pub fn contains(&self, service: Service) -> bool {
        match service {
            Service::Tcp(port) => self.tcp.contains(port),
            Service::Udp(port) => self.udp.contains(port),
            Service::Sctp(port) => self.sctp.contains(port),
            Service::Echo => self.echo,
            Service::Ip(number) => self.ip.contains(u16::from(number)),
        }
    }

    /// The first service of the set, in the order of its text.
    pub(crate) fn first(&self) -> Option<Service> {
        let lowest = |ranges: &Ranges| ranges.0.first().map(|&(low, _)| low);
        let ports = [
            (&self.tcp, Service::Tcp as fn(u16) -> _),
            (&self.udp, Service::Udp),
            (&self.sctp, Service::Sctp),
        ];
        let port = ports.into_iter().find_map(|(ranges, service)| lowest(ranges).map(service));
        let number = || lowest(&self.ip).and_then(|number| u8::try_from(number).ok()).map(Service::Ip);
        port.or_else(number).or_else(|| self.echo.then_some(Service::Echo))
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, Ranges::union, |ours, theirs| ours || theirs)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, Ranges::difference, |ours, theirs| ours && !theirs)
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }

    /// Whether anything is in both sets.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.tcp.meets(&other.tcp)
            || self.udp.meets(&other.udp)
            || self.sctp.meets(&other.sctp)
            || self.ip.meets(&other.ip)
            || self.echo && other.echo
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many ranges there are to write.
    pub(crate) fn ranges(&self) -> usize {
        [&self.tcp, &self.udp, &self.sctp, &self.ip].iter().map(|ranges| ranges.0.len()).sum()
    }

    /// Whether every reader of a bundle takes this set: at most [`MAX_RANGES`] for each protocol.
    pub(crate) fn fits_a_bundle(&self) -> bool {
        [&self.tcp, &self.udp, &self.sctp, &self.ip].iter().all(|ranges| ranges.0.len() <= MAX_RANGES)
    }

    fn combine(
        &self,
        other: &Self,
        ranges: fn(&Ranges, &Ranges) -> Ranges,
        echo: fn(bool, bool) -> bool,
    ) -> Self {
        Self {
            tcp: ranges(&self.tcp, &other.tcp),
            udp: ranges(&self.udp, &other.udp),
            sctp: ranges(&self.sctp, &other.sctp),
            ip: ranges(&self.ip, &other.ip),
            echo: echo(self.echo, other.echo),
        }
    }
}

/// `any`, `none`, or the items in the policy's own syntax, joined by `, `.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::any() {
            return f.write_str("any");
        }
        let mut items = Vec::new();
        for (protocol, ranges, last) in [
            ("tcp", &self.tcp, u16::MAX),
            ("udp", &self.udp, u16::MAX),
            ("sctp", &self.sctp, u16::MAX),
            ("ip", &self.ip, u16::from(u8::MAX)),
        ] {
            items.extend(ranges.0.iter().map(|&(low, high)| match (low, high) {
                (0, high) if high == last => format!("{protocol}/*"),
                (low, high) if low == high => format!("{protocol}/{low}"),
                (low, high) => format!("{protocol}/{low}-{high}"),
            }));
        }
        if self.echo {
            items.push("icmp".to_owned());
        }
        f.write_str(if items.is_empty() { "none" } else { "" })?;
        f.write_str(&items.join(", "))
    }
}

impl serde::Serialize for PortSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Sorted, disjoint, never touching, both ends inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ranges(Vec<(u16, u16)>);

fn full(last: u16) -> Ranges {
    Ranges(vec![(0, last)])
}

impl Ranges {
    fn from_to(first: u16, last: u16, text: &str) -> Result<Self, String> {
        if first > last {
            return Err(format!("the range {text:?} runs backwards"));
        }
        Ok(Self(vec![(first, last)]))
    }

    fn contains(&self, number: u16) -> bool {
        let after = self.0.partition_point(|&(low, _)| low <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    fn meets(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.as_slice(), other.0.as_slice());
        while let ([(low, high), our_rest @ ..], [(other_low, other_high), their_rest @ ..]) = (ours, theirs)
        {
            if high < other_low {
                ours = our_rest;
            } else if other_high < low {
                theirs = their_rest;
            } else {
                return true;
            }
        }
        false
    }

    fn union(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(all.len());
        for (low, high) in all {
            match merged.last_mut() {
                // `saturating_add`: a range that ends at 65535 touches whatever follows it.
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                Some(_) | None => merged.push((low, high)),
            }
        }
        Self(merged)
    }

    fn difference(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for &(low, high) in &self.0 {
            let mut next = Some(low);
            for &(cut_low, cut_high) in &other.0 {
                let Some(start) = next else { break };
                if cut_high < start || cut_low > high {
                    continue;
                }
                if cut_low > start {
                    left.push((start, cut_low - 1));
                }
                next = cut_high.checked_add(1).filter(|&start| start <= high);
            }
            left.extend(next.map(|start| (start, high)));
        }
        Self(left)
    }

    fn is_canonical(&self, last: u16) -> bool {
        let ordered = self.0.iter().all(|&(low, high)| low <= high && high <= last);
        ordered && self.0.windows(2).all(|pair| u32::from(pair[0].1) + 1 < u32::from(pair[1].0))
    }
}

fn split(text: &str) -> Result<(&str, &str), String> {
    text.split_once('/').ok_or_else(|| {
        format!("{text:?} is neither a port like tcp/443, nor icmp, ip/47 or any, nor a known service")
    })
}

fn port(text: &str) -> Result<u16, String> {
    digits(text).and_then(|number| u16::try_from(number).ok()).ok_or_else(|| {
        format!("{text:?} is not a port; ports are numbers up to 65535, ranges are written 5000-5100")
    })
}

fn protocol_number(text: &str) -> Result<u8, String> {
    digits(text)
        .and_then(|number| u8::try_from(number).ok())
        .ok_or_else(|| format!("{text:?} is not an IP protocol number; those are 0 to 255"))
}

/// Plain digits only: `str::parse` would also take `+80`.
fn digits(text: &str) -> Option<u32> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn unknown_protocol(protocol: &str) -> String {
    format!("unknown protocol {protocol:?}; known are tcp, udp, sctp, ip (by number) and icmp")
}

impl<C> Encode<C> for PortSet {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(5)?;
        for ranges in [&self.tcp, &self.udp, &self.sctp, &self.ip] {
            e.array(2 * ranges.0.len() as u64)?;
            for &(low, high) in &ranges.0 {
                e.u16(low)?.u16(high)?;
            }
        }
        e.bool(self.echo)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for PortSet {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        if d.array()? != Some(5) {
            return Err(decode::Error::message("a port set has five parts"));
        }
        Ok(Self {
            tcp: decode_ranges(d, u16::MAX)?,
            udp: decode_ranges(d, u16::MAX)?,
            sctp: decode_ranges(d, u16::MAX)?,
            ip: decode_ranges(d, u16::from(u8::MAX))?,
            echo: d.bool()?,
        })
    }
}

fn decode_ranges(d: &mut Decoder<'_>, last: u16) -> Result<Ranges, decode::Error> {
    if d.datatype()? == Type::ArrayIndef {
        return Err(decode::Error::message("port ranges have a definite length"));
    }
    let numbers = d.array()?.unwrap_or_default();
    if numbers % 2 != 0 || numbers > 2 * MAX_RANGES as u64 {
        return Err(decode::Error::message("port ranges come in pairs, at most MAX_RANGES"));
    }
    let mut ranges = Ranges::default();
    for _ in 0..numbers / 2 {
        ranges.0.push((d.u16()?, d.u16()?));
    }
    if !ranges.is_canonical(last) {
        return Err(decode::Error::message("port ranges are not sorted and disjoint"));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// The obvious set: one flag per service of a small universe, edges of the number space included.
    fn universe() -> Vec<Service> {
        let ports = (0..=40).chain(65500..=65535);
        let mut all: Vec<_> =
            ports.flat_map(|p| [Service::Tcp(p), Service::Udp(p), Service::Sctp(p)]).collect();
        all.extend((0..=255).map(Service::Ip));
        all.push(Service::Echo);
        all
    }

    fn bitmap(set: &PortSet) -> Vec<bool> {
        universe().into_iter().map(|service| set.contains(service)).collect()
    }

    fn item() -> impl Strategy<Value = String> {
        let port = prop_oneof![0u16..=40, 65500u16..=65535];
        let protocol = prop_oneof![Just("tcp"), Just("udp"), Just("sctp")];
        prop_oneof![
            6 => (protocol.clone(), port.clone(), port).prop_map(|(protocol, a, b)| {
                format!("{protocol}/{}-{}", a.min(b), a.max(b))
            }),
            1 => protocol.prop_map(|protocol| format!("{protocol}/*")),
            1 => (0u8..=255).prop_map(|number| format!("ip/{number}")),
            1 => Just("icmp".to_owned()),
            1 => Just("any".to_owned()),
        ]
    }

    fn set() -> impl Strategy<Value = (PortSet, Vec<bool>)> {
        proptest::collection::vec(item(), 0..6).prop_map(|items| {
            let mut set = PortSet::default();
            let mut naive = vec![false; universe().len()];
            for item in items {
                set = set.union(&PortSet::parse(&item).unwrap());
                for (flag, service) in naive.iter_mut().zip(universe()) {
                    *flag |= naive_contains(&item, service);
                }
            }
            (set, naive)
        })
    }

    /// Membership read off the text, with no ranges involved.
    fn naive_contains(item: &str, service: Service) -> bool {
        if item == "any" {
            return true;
        }
        let shown = service.to_string();
        let (Some((protocol, range)), Some((ours, number))) = (item.split_once('/'), shown.split_once('/'))
        else {
            return item == shown;
        };
        let number: u32 = number.parse().unwrap();
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        protocol == ours
            && (range == "*" || (low.parse::<u32>().unwrap()..=high.parse().unwrap()).contains(&number))
    }

    proptest! {
        #[test]
        fn the_algebra_agrees_with_a_bitmap((a, naive_a) in set(), (b, naive_b) in set()) {
            prop_assert_eq!(&bitmap(&a), &naive_a);
            let zip = |op: fn(bool, bool) -> bool| -> Vec<bool> {
                naive_a.iter().zip(&naive_b).map(|(&x, &y)| op(x, y)).collect()
            };
            prop_assert_eq!(bitmap(&a.union(&b)), zip(|x, y| x | y));
            prop_assert_eq!(bitmap(&a.difference(&b)), zip(|x, y| x & !y));
            prop_assert_eq!(a.meets(&b), !a.intersection(&b).is_empty());
            prop_assert_eq!(a.first().is_some_and(|service| a.contains(service)), !a.is_empty());
            prop_assert_eq!(bitmap(&a.intersection(&b)), zip(|x, y| x & y));
            prop_assert!(a.difference(&a).is_empty());
            prop_assert_eq!(&a.difference(&b).union(&a.intersection(&b)), &a);
        }

        #[test]
        fn parse_after_print_is_the_same_set((a, _) in set(), (b, _) in set()) {
            let left = a.difference(&b);
            prop_assume!(!left.is_empty());
            prop_assert_eq!(PortSet::parse(&left.to_string()).unwrap(), left);
        }

        #[test]
        fn decode_after_encode_is_the_same_set((a, _) in set(), (b, _) in set()) {
            let left = a.difference(&b);
            let bytes = minicbor::to_vec(&left).unwrap();
            prop_assert_eq!(decode::<PortSet>(&bytes).unwrap(), left);
        }
    }

    #[test]
    fn bad_ports_are_refused_with_the_reason() {
        for (text, reason) in [
            ("tcp/65536", "up to 65535"),
            ("tcp/-1", "not a port"),
            ("tcp/+80", "not a port"),
            ("tcp/80-", "not a port"),
            ("tcp/", "not a port"),
            ("tcp/65535-0", "backwards"),
            ("tcp/4294967376", "not a port"),
            ("ip/256", "0 to 255"),
            ("tpc/80", "unknown protocol"),
            ("TCP/80", "unknown protocol"),
            ("443", "neither"),
            ("", "neither"),
            ("tcp/80,", "neither"),
        ] {
            let error = PortSet::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(Service::parse("tcp/1-2").unwrap_err().contains("range"));
        assert!(Service::parse("any").is_err());
    }

    #[test]
    fn the_last_port_is_in_and_nothing_wraps_around() {
        let set = PortSet::parse("tcp/65535").unwrap();
        assert!(set.contains(Service::Tcp(65535)));
        assert!(!set.contains(Service::Tcp(0)));
        assert_eq!(PortSet::parse("tcp/0-65534").unwrap().union(&set).to_string(), "tcp/*");
        assert!(PortSet::parse("tcp/*").unwrap().contains(Service::Tcp(0)));
    }

    #[test]
    fn an_unknown_protocol_matches_only_its_number_or_any() {
        let gre = Service::Ip(47);
        assert!(PortSet::parse("ip/47").unwrap().contains(gre));
        assert!(PortSet::any().contains(gre));
        assert!(!PortSet::parse("tcp/*, udp/*, sctp/*, icmp").unwrap().contains(gre));
        assert!(!PortSet::parse("ip/6").unwrap().contains(Service::Tcp(80)));
    }

    #[test]
    fn another_protocol_does_not_pass_a_tcp_rule() {
        let set = PortSet::parse("tcp/53").unwrap();
        assert!(!set.contains(Service::Udp(53)));
        assert!(!set.contains(Service::Sctp(53)));
        assert!(!set.contains(Service::Echo));
    }

    #[test]
    fn a_set_that_is_not_canonical_is_refused() {
        for ranges in [vec![5, 4], vec![1, 2, 3, 4], vec![5, 6, 1, 2], vec![1]] {
            let mut bytes = vec![0x85, 0x80 + ranges.len() as u8];
            bytes.extend(ranges);
            bytes.extend([0x80, 0x80, 0x80, 0xf4]);
            assert!(decode::<PortSet>(&bytes).is_err());
        }
    }
}
