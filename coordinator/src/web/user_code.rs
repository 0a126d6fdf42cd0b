//! The user code as people type it: RFC 8628, section 6.1. Case, blanks and hyphens do not matter; everything else
//! does, so what looks like a code is one of 20^8 and can be compared as it is.

use crate::web::limits::MAX_TYPED_CODE_BYTES;
use std::fmt;

/// Consonants only, so that no word appears and none is mistaken for a digit (RFC 8628, section 6.1).
const ALPHABET: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS: usize = 8;

/// A user code, shown as `WDJB-MJHT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// Reads what somebody typed, or what a link carries.
    #[must_use]
    pub fn parse(typed: &str) -> Option<Self> {
        if typed.len() > MAX_TYPED_CODE_BYTES {
            return None;
        }
        let separator = |c: &char| !c.is_ascii_whitespace() && *c != '-';
        let letters: String = typed.chars().filter(separator).map(|c| c.to_ascii_uppercase()).collect();
        let known = letters.bytes().all(|letter| ALPHABET.contains(&letter));
        (known && letters.len() == LETTERS).then(|| {
            let (first, second) = letters.split_at(LETTERS / 2);
            Self(format!("{first}-{second}"))
        })
    }

    /// `WDJB-MJHT`
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        for typed in ["WDJB-MJHT", "wdjbmjht", " wdjb mjht ", "W-D-J-B-M-J-H-T"] {
            assert_eq!(UserCode::parse(typed).map(|code| code.to_string()).as_deref(), Some("WDJB-MJHT"));
        }
        let long = "-".repeat(64) + "WDJBMJHT";
        for wrong in ["", "WDJB-MJH", "WDJB-MJHTT", "WDJB-MJHA", "WDJB_MJHT", "ＷDJB-MJHT", &long] {
            assert_eq!(UserCode::parse(wrong), None, "{wrong}");
        }
    }
}
