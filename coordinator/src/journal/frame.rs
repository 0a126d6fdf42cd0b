//! One journal entry as bytes. A frame carries its own checksum, and the hash of the frame before it.
//!
//! ```text
//! length u32 | crc32c u32 | sequence u64 | time u64 | previous hash [32] | actor length u16 | actor | event
//! \_ of the body _/        \_______________________________ body ______________________________________/
//! ```
//!
//! Integers are big-endian. The checksum covers the length and the body, so that every byte of the file is
//! covered by one. The chain hash of a frame is SHA-256 of its body, which contains the previous hash: a frame
//! that was changed, removed or moved breaks the chain at the next one.

use bulkhead_identity::Timestamp;

/// Length and checksum, before the body.
pub const HEADER_BYTES: usize = 8;
/// Sequence, time, previous hash and the actor's length: the part of a body that is always there.
const FIXED_BYTES: usize = 8 + 8 + 32 + 2;
/// Largest event of one frame. A policy of the largest size that is accepted, compiled and signed, fits.
pub const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;
/// Longest actor of one frame.
pub const MAX_ACTOR_BYTES: usize = 256;
/// Largest body that a reader accepts.
pub const MAX_BODY_BYTES: usize = FIXED_BYTES + MAX_ACTOR_BYTES + MAX_EVENT_BYTES;

/// SHA-256 of a frame's body; the next frame repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ChainHash(pub [u8; 32]);

impl std::fmt::Display for ChainHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// The end of a chain: what the next frame has to continue. `default()` is the start of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Link {
    /// Sequence number of the last frame; the first frame has number 1.
    pub sequence: u64,
    /// Hash of the last frame.
    pub hash: ChainHash,
}

/// One entry: who did what when. The event is opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Wall-clock time at which the engine decided it.
    pub time: Timestamp,
    /// Who asked for it, as the audit log shows it.
    pub actor: String,
    /// The engine's event, encoded.
    pub event: Vec<u8>,
}

/// An entry in its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// This frame's number and hash.
    pub link: Link,
    /// What it records.
    pub entry: Entry,
}

/// Why bytes are not the next frame. The reader adds file and offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length cannot be that of a frame.
    #[error("a frame of {0} bytes is impossible")]
    Length(usize),
    /// The file ends inside the frame.
    #[error("the file ends inside a frame")]
    Short,
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The number is not the next one.
    #[error("frame {found} stands where frame {expected} belongs")]
    Sequence {
        /// Number that the chain asks for.
        expected: u64,
        /// Number that the frame carries.
        found: u64,
    },
    /// The previous hash is not that of the frame before.
    #[error("the hash of the previous frame does not match: the chain is broken")]
    Chain,
    /// The actor is not text of the announced length.
    #[error("the actor is not readable")]
    Actor,
    /// An entry that is too large to be written.
    #[error("an entry of {0} bytes exceeds the limit of {MAX_EVENT_BYTES} (MAX_EVENT_BYTES)")]
    TooLarge(usize),
}

/// Appends the frame that continues `link` to `out` and returns the new end of the chain.
///
/// # Errors
/// The event is larger than [`MAX_EVENT_BYTES`]; `out` is unchanged. An actor that is too long is shortened:
/// it only ever names, and refusing an accepted change over it would be worse.
pub fn encode(link: Link, entry: &Entry, out: &mut Vec<u8>) -> Result<Link, FrameError> {
    if entry.event.len() > MAX_EVENT_BYTES {
        return Err(FrameError::TooLarge(entry.event.len()));
    }
    let actor = shortened(&entry.actor);
    let sequence = link.sequence + 1;
    let mut body = Vec::with_capacity(FIXED_BYTES + actor.len() + entry.event.len());
    body.extend_from_slice(&sequence.to_be_bytes());
    body.extend_from_slice(&entry.time.0.to_be_bytes());
    body.extend_from_slice(&link.hash.0);
    body.extend_from_slice(&u16::try_from(actor.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend_from_slice(actor.as_bytes());
    body.extend_from_slice(&entry.event);
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLarge(body.len()))?.to_be_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, &body).to_be_bytes());
    out.extend_from_slice(&body);
    Ok(Link { sequence, hash: hash(&body) })
}

/// The body's length that a header announces.
///
/// # Errors
/// No frame has that length.
pub fn body_length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let [a, b, c, d, ..] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if (FIXED_BYTES..=MAX_BODY_BYTES).contains(&length) {
        Ok(length)
    } else {
        Err(FrameError::Length(length))
    }
}

/// Decodes the frame that continues `link`. `None` as link accepts any place in the chain: for reading a page
/// out of a journal that was verified at start.
///
/// # Errors
/// Anything that does not check.
pub fn decode(header: [u8; HEADER_BYTES], body: &[u8], link: Option<Link>) -> Result<Frame, FrameError> {
    let [a, b, c, d, e, f, g, h] = header;
    if checksum([a, b, c, d], body) != u32::from_be_bytes([e, f, g, h]) {
        return Err(FrameError::Checksum);
    }
    let (sequence, rest) = u64_at(body)?;
    let (time, rest) = u64_at(rest)?;
    let (previous, rest) = rest.split_first_chunk::<32>().ok_or(FrameError::Short)?;
    let (actor_length, rest) = rest.split_first_chunk::<2>().ok_or(FrameError::Short)?;
    let (actor, event) =
        rest.split_at_checked(u16::from_be_bytes(*actor_length).into()).ok_or(FrameError::Actor)?;
    if let Some(link) = link {
        let expected = link.sequence + 1;
        if sequence != expected {
            return Err(FrameError::Sequence { expected, found: sequence });
        }
        if *previous != link.hash.0 {
            return Err(FrameError::Chain);
        }
    }
    let actor = std::str::from_utf8(actor).map_err(|_| FrameError::Actor)?.to_owned();
    let entry = Entry { time: Timestamp(time), actor, event: event.to_vec() };
    Ok(Frame { link: Link { sequence, hash: hash(body) }, entry })
}

fn u64_at(bytes: &[u8]) -> Result<(u64, &[u8]), FrameError> {
    let (head, rest) = bytes.split_first_chunk::<8>().ok_or(FrameError::Short)?;
    Ok((u64::from_be_bytes(*head), rest))
}

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), body)
}

fn hash(body: &[u8]) -> ChainHash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, body).as_ref());
    ChainHash(bytes)
}

fn shortened(actor: &str) -> &str {
    let mut end = actor.len().min(MAX_ACTOR_BYTES);
    while !actor.is_char_boundary(end) {
        end -= 1;
    }
    &actor[..end]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn split(bytes: &[u8]) -> ([u8; HEADER_BYTES], &[u8]) {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
        (*header, body)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(time: u64, actor in "\\PC{0,80}", event: Vec<u8>, sequence in 0_u64..1 << 60, hash: [u8; 32]) {
            let link = Link { sequence, hash: ChainHash(hash) };
            let entry = Entry { time: Timestamp(time), actor, event };
            let mut bytes = Vec::new();
            let next = encode(link, &entry, &mut bytes).unwrap();
            let (header, body) = split(&bytes);
            prop_assert_eq!(body_length(header).unwrap(), body.len());
            let frame = decode(header, body, Some(link)).unwrap();
            prop_assert_eq!(frame.link, next);
            prop_assert_eq!(&frame.entry.event, &entry.event);
            prop_assert!(entry.actor.starts_with(&frame.entry.actor));
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_panic(header: [u8; HEADER_BYTES], body: Vec<u8>) {
            let _ = body_length(header);
            prop_assert!(decode(header, &body, None).is_err() || body.len() >= FIXED_BYTES);
        }
    }

    #[test]
    fn a_long_actor_is_cut_at_a_character() {
        assert_eq!(shortened(&"é".repeat(200)).len(), MAX_ACTOR_BYTES);
        assert_eq!(shortened(&format!("x{}", "é".repeat(200))).len(), MAX_ACTOR_BYTES - 1);
    }
}
