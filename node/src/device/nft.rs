//! Just enough of nftables' netlink protocol to put one table of drop rules in place, all or nothing.
//!
//! Property: what is sent is one transaction; the kernel takes it as a whole or not at all, so there is no moment in
//! which an old table is gone and the new one not there. Constants are those of
//! `linux/netfilter/nf_tables.h` and `linux/netfilter/nfnetlink.h`.

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use std::io;

/// One transaction of ours is some 2 KB; its answers are less.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const FLAG_REQUEST: u16 = 1;
const FLAG_ACK: u16 = 4;
const FLAG_CREATE: u16 = 0x400;
const FLAG_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;
const UNSPECIFIED: u8 = 0;
/// Both IP versions in one table.
const INET: u8 = 1;
const HEADER_BYTES: usize = 16;
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const INTERFACE_NAME_BYTES: usize = 16;

/// The bytes of one comparison or load, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// The packet came in by another interface.
    NotFrom(String),
    /// It is of this IP version (`AF_INET` 2, `AF_INET6` 10).
    Version(u8),
    /// The network header's bytes from `offset` on agree with `prefix` in its first `bits`.
    Header {
        /// Where the field begins.
        offset: u32,
        /// The whole field.
        prefix: Vec<u8>,
        /// How much of it counts.
        bits: u8,
    },
    /// It is counted.
    Count,
    /// It is dropped.
    Drop,
}

/// Replaces the table `name`: one chain in front of routing, before connection tracking, with these rules.
///
/// # Errors
/// The kernel's; what was there before is still there.
pub(crate) fn replace_table(name: &str, rules: &[Vec<Expression>]) -> io::Result<()> {
    let mut batch = Batch::begin();
    // Making it first lets the deletion succeed when there was none.
    batch.table(NEW_TABLE, FLAG_CREATE, name);
    batch.table(DELETE_TABLE, 0, name);
    batch.table(NEW_TABLE, FLAG_CREATE, name);
    batch.chain(name);
    for rule in rules {
        batch.rule(name, rule);
    }
    batch.send()
}

/// Removes the table `name`, if there is one.
///
/// # Errors
/// The kernel's.
pub(crate) fn remove_table(name: &str) -> io::Result<()> {
    let mut batch = Batch::begin();
    batch.table(NEW_TABLE, FLAG_CREATE, name);
    batch.table(DELETE_TABLE, 0, name);
    batch.send()
}

const CHAIN: &str = "arrivals";
/// `NF_INET_PRE_ROUTING`.
const HOOK: u32 = 0;
/// `raw`: before connection tracking spends anything on it.
const PRIORITY: i32 = -300;

/// Messages of one transaction.
struct Batch {
    bytes: Vec<u8>,
    messages: u32,
    acknowledged: usize,
}

impl Batch {
    fn begin() -> Self {
        let mut batch = Self { bytes: Vec::new(), messages: 0, acknowledged: 0 };
        batch.message(BATCH_BEGIN, FLAG_REQUEST, UNSPECIFIED, SUBSYSTEM, &[]);
        batch
    }

    fn table(&mut self, kind: u16, flags: u16, name: &str) {
        self.change(kind, flags, &text(1, name));
    }

    fn chain(&mut self, table: &str) {
        let hook = [number(1, HOOK), attribute(2, &PRIORITY.to_be_bytes())].concat();
        let chain = [text(1, table), text(3, CHAIN), nested(4, &hook), text(7, "filter")].concat();
        self.change(NEW_CHAIN, FLAG_CREATE, &chain);
    }

    fn rule(&mut self, table: &str, expressions: &[Expression]) {
        let list: Vec<u8> = expressions.iter().flat_map(Expression::encode).collect();
        let rule = [text(1, table), text(2, CHAIN), nested(4, &list)].concat();
        self.change(NEW_RULE, FLAG_CREATE | FLAG_APPEND, &rule);
    }

    fn change(&mut self, kind: u16, flags: u16, attributes: &[u8]) {
        self.acknowledged += 1;
        self.message(kind, FLAG_REQUEST | FLAG_ACK | flags, INET, 0, attributes);
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) {
        let length = u32::try_from(HEADER_BYTES + 4 + attributes.len()).expect("our messages are short");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(attributes);
        self.messages += 1;
    }

    fn send(mut self) -> io::Result<()> {
        self.message(BATCH_END, FLAG_REQUEST, UNSPECIFIED, SUBSYSTEM, &[]);
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let sent = socket.send(&self.bytes, 0)?;
        if sent != self.bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        // The kernel has handled the batch, and queued every answer, before `send` returns: an answer that is not
        // there will not come.
        socket.set_non_blocking(true)?;
        let mut answers = vec![0_u8; MAX_ANSWER_BYTES];
        let mut acknowledged = 0;
        while acknowledged < self.acknowledged {
            let (length, _) = socket.recv_from(&mut &mut answers[..], 0)?;
            acknowledged += check_answers(answers.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Counts acknowledgements; the first error ends it.
fn check_answers(mut answers: &[u8]) -> io::Result<usize> {
    let mut acknowledged = 0;
    while let Some((header, rest)) = answers.split_first_chunk::<HEADER_BYTES>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
        if u16::from_ne_bytes([header[4], header[5]]) == ERROR {
            let code = rest.first_chunk::<4>().ok_or(io::ErrorKind::InvalidData)?;
            match i32::from_ne_bytes(*code) {
                0 => acknowledged += 1,
                code => return Err(io::Error::from_raw_os_error(code.saturating_neg())),
            }
        }
        let next = length.max(HEADER_BYTES).next_multiple_of(4);
        answers = answers.get(next..).unwrap_or_default();
    }
    Ok(acknowledged)
}

impl Expression {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::NotFrom(interface) => {
                let mut name = [0; INTERFACE_NAME_BYTES];
                name.iter_mut().zip(interface.bytes()).for_each(|(to, from)| *to = from);
                [load_meta(META_INTERFACE_NAME), compare(CompareAs::Differs, &name)].concat()
            }
            Self::Version(version) => {
                [load_meta(META_VERSION), compare(CompareAs::Equals, &[*version])].concat()
            }
            Self::Header { offset, prefix, bits } => {
                let length = u32::try_from(prefix.len()).expect("an address is 4 or 16 bytes");
                let field =
                    [number(1, REGISTER), number(2, 1), number(3, *offset), number(4, length)].concat();
                let mask = mask(prefix.len(), *bits);
                let masked: Vec<u8> = prefix.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
                let bitwise = [
                    number(1, REGISTER),
                    number(2, REGISTER),
                    number(3, length),
                    nested(4, &attribute(1, &mask)),
                    nested(5, &attribute(1, &vec![0; prefix.len()])),
                ]
                .concat();
                let loaded = [expression("payload", &field), expression("bitwise", &bitwise)].concat();
                [loaded, compare(CompareAs::Equals, &masked)].concat()
            }
            Self::Count => expression("counter", &[]),
            Self::Drop => {
                // `NF_DROP` is 0.
                let verdict = nested(2, &nested(2, &number(1, 0)));
                expression("immediate", &[number(1, VERDICT_REGISTER), verdict].concat())
            }
        }
    }
}

const META_INTERFACE_NAME: u32 = 6;
const META_VERSION: u32 = 15;

#[derive(Clone, Copy)]
enum CompareAs {
    Equals = 0,
    Differs = 1,
}

fn load_meta(key: u32) -> Vec<u8> {
    expression("meta", &[number(1, REGISTER), number(2, key)].concat())
}

fn compare(how: CompareAs, with: &[u8]) -> Vec<u8> {
    let value = nested(3, &attribute(1, with));
    expression("cmp", &[number(1, REGISTER), number(2, how as u32), value].concat())
}

fn expression(name: &str, attributes: &[u8]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, attributes)].concat())
}

fn mask(bytes: usize, bits: u8) -> Vec<u8> {
    let bits = usize::from(bits);
    (0..bytes)
        .map(|at| u8::MAX.checked_shl(8 - bits.saturating_sub(at * 8).min(8) as u32).unwrap_or(0))
        .collect()
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn nested(kind: u16, inner: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, inner)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("our attributes are short");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_covers_exactly_its_bits() {
        assert_eq!(mask(4, 10), [0xff, 0xc0, 0, 0]);
        assert_eq!(mask(4, 0), [0; 4]);
        assert_eq!(mask(4, 32), [0xff; 4]);
        assert_eq!(mask(16, 48)[..7], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    }

    #[test]
    fn attributes_are_padded_but_say_their_true_length() {
        assert_eq!(attribute(1, b"abc"), [7, 0, 1, 0, b'a', b'b', b'c', 0]);
    }

    #[test]
    fn an_error_in_any_answer_is_the_outcome() {
        let answer = |code: i32| {
            let mut bytes =
                [&36_u32.to_ne_bytes()[..], &ERROR.to_ne_bytes(), &[0; 10], &code.to_ne_bytes()].concat();
            bytes.resize(36, 0);
            bytes
        };
        let both = [answer(0), answer(-1)].concat();
        assert_eq!(check_answers(&answer(0)).ok(), Some(1));
        assert_eq!(check_answers(&both).map_err(|error| error.raw_os_error()), Err(Some(1)));
    }
}
