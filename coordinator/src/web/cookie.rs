//! The one cookie: 256 random bits that name a browser's sign-in. The `__Host-` prefix makes the browser itself
//! refuse one that another host set, or that came without TLS (RFC 6265bis, section 4.1.3.2); scripts cannot read
//! it, and no other site's form carries it (D16).

use crate::clock::{NoRandomness, random};
use axum::http::{HeaderMap, HeaderValue, header};
use bulkhead_protocol::token::secret_hash;
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use zeroize::Zeroizing;

const NAME: &str = "__Host-bulkhead";
/// Lax and not Strict: the provider's answer arrives by a link from another site.
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";

/// What the cookie holds.
#[derive(Clone)]
pub(super) struct Cookie(Zeroizing<[u8; 32]>);

impl Cookie {
    /// A fresh one.
    pub(super) fn new() -> Result<Self, NoRandomness> {
        random().map(Self)
    }

    /// The one that a request carries. Two of the same name are none: one of them is somebody else's.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut ours = pairs.filter(|(name, _)| *name == NAME).map(|(_, value)| value);
        let (Some(value), None) = (ours.next(), ours.next()) else { return None };
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(value.as_bytes()).ok()?);
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// The `set-cookie` header. It ends with the browser's session at the latest.
    pub(super) fn header(&self) -> HeaderValue {
        let text = format!("{NAME}={}; {ATTRIBUTES}", BASE64URL_NOPAD.encode(self.0.as_ref()));
        let mut value = HeaderValue::from_str(&text).expect("base64url and our own attributes are ASCII");
        value.set_sensitive(true);
        value
    }

    /// Under which its sign-in is kept: looking it up by the secret itself would tell by its time how much of a
    /// guess is right.
    pub(super) fn key(&self) -> String {
        BASE64URL_NOPAD.encode(&secret_hash(self.0.as_ref()))
    }

    /// What a form of this browser carries, and no other site can know: a MAC of the form's name.
    pub(super) fn form(&self, name: &str) -> String {
        BASE64URL_NOPAD.encode(hmac::sign(&self.mac(), name.as_bytes()).as_ref())
    }

    /// Whether the form that came back is one that we gave this browser.
    pub(super) fn is_form(&self, name: &str, token: &str) -> bool {
        BASE64URL_NOPAD
            .decode(token.as_bytes())
            .is_ok_and(|tag| hmac::verify(&self.mac(), name.as_bytes(), &tag).is_ok())
    }

    fn mac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::COOKIE, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn d16_the_cookie_is_read_back_and_a_second_one_makes_it_none() {
        let cookie = Cookie::new().unwrap();
        let set = cookie.header();
        let set = set.to_str().unwrap();
        for attribute in ["__Host-", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
            assert!(set.contains(attribute), "{set}");
        }
        assert!(!set.contains("Domain"), "{set}");
        let pair = set.split(';').next().unwrap();
        let read = |lines: &[&str]| Cookie::of(&headers(lines)).map(|read| read.key());
        assert_eq!(read(&[pair]), Some(cookie.key()));
        assert_eq!(read(&["a=b", &format!("c=d; {pair}; e=f")]), Some(cookie.key()));
        for wrong in [&[][..], &["a=b"], &[pair, pair], &["__Host-bulkhead=AAAA"], &["__Host-bulkhead=%%"]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn d6_a_form_is_good_for_its_own_browser_and_its_own_purpose() {
        let (mine, other) = (Cookie::new().unwrap(), Cookie::new().unwrap());
        let token = mine.form("confirm");
        assert!(mine.is_form("confirm", &token));
        assert!(!mine.is_form("signin", &token));
        assert!(!other.is_form("confirm", &token));
        assert!(!mine.is_form("confirm", ""));
    }
}
