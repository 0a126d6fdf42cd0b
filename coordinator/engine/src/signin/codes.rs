//! The codes of a sign-in. A user code is short because people type it: what protects it is its short life, the count
//! of wrong ones, and that whoever holds it gains nothing but the chance to confirm with their own name.

use crate::Entropy;
use bulkhead_protocol::signin::MAX_USER_CODE_BYTES;

/// Consonants only, so that no code spells a word, and none that looks like another (RFC 8628, section 6.1).
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a user code: 34 bits.
const LETTERS: usize = 8;
/// The largest multiple of the alphabet's size that a byte can count to: bytes from there on would favour some letters.
const FAIR: u8 = 240;

/// A user code without its dash, as it is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UserCode(String);

impl UserCode {
    /// A fresh one that is not `taken`.
    pub(crate) fn draw(entropy: &Entropy, taken: impl Fn(&Self) -> bool) -> Self {
        // Ends: a code is taken with a chance of one in millions, and every round draws anew.
        let mut rounds = (0u32..).map(|round| entropy.derive(&format!("user code {round}")));
        loop {
            let bytes = rounds.next().unwrap_or_default();
            let letters = bytes.iter().filter(|byte| **byte < FAIR);
            let code: String = letters.filter_map(|byte| letter(*byte)).take(LETTERS).collect();
            let code = Self(code);
            if code.0.len() == LETTERS && !taken(&code) {
                return code;
            }
        }
    }

    /// What a person typed; case, dashes and spaces do not matter. `None`: no code looks like that.
    pub(crate) fn read(typed: &str) -> Option<Self> {
        if typed.len() > MAX_USER_CODE_BYTES {
            return None;
        }
        let letters = typed.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_uppercase());
        let code: String = letters.collect();
        let inside = code.bytes().all(|byte| ALPHABET.contains(&byte));
        (inside && code.len() == LETTERS).then_some(Self(code))
    }

    /// As it is looked up.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As people read it: `XXXX-XXXX`.
    pub(crate) fn shown(&self) -> String {
        let (first, second) = self.0.split_at_checked(LETTERS / 2).unwrap_or((&self.0, ""));
        format!("{first}-{second}")
    }
}

fn letter(byte: u8) -> Option<char> {
    ALPHABET.get(usize::from(byte) % ALPHABET.len()).map(|letter| char::from(*letter))
}

/// Two groups of two digits.
pub(crate) fn match_code(entropy: &Entropy) -> String {
    let bytes = entropy.derive("match code");
    // Of 2^32 values, 10,000 classes: no class is favoured by more than one in 400,000.
    let number = bytes.iter().take(4).fold(0u32, |number, byte| number << 8 | u32::from(*byte)) % 10_000;
    format!("{:02} {:02}", number / 100, number % 100)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_code_is_read_however_it_is_typed(seed: [u8; 32]) {
            let code = UserCode::draw(&Entropy::new(seed), |_| false);
            let shown = code.shown();
            prop_assert_eq!(shown.len(), LETTERS + 1);
            for typed in [shown.clone(), shown.to_lowercase(), format!(" {} ", shown.replace('-', " "))] {
                prop_assert_eq!(UserCode::read(&typed), Some(code.clone()));
            }
            let another = UserCode::draw(&Entropy::new(seed), |taken| *taken == code);
            prop_assert_ne!(another, code);
        }

        #[test]
        fn any_text_is_a_code_or_none(typed: String) {
            let _ = UserCode::read(&typed);
        }

        #[test]
        fn a_match_code_is_four_digits(seed: [u8; 32]) {
            let code = match_code(&Entropy::new(seed));
            prop_assert!(code.len() == 5 && code.bytes().filter(u8::is_ascii_digit).count() == 4);
        }
    }

    #[test]
    fn what_no_code_looks_like_is_none() {
        for wrong in ["", "BCDF", "BCDF-GHJA", "BCDF-GHJKL", "ÄCDF-GHJK", &"B".repeat(1000)] {
            assert_eq!(UserCode::read(wrong), None, "{wrong}");
        }
    }
}
