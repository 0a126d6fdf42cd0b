//! Join tokens, the administrators' bootstrap secret and API keys, as text:
//! `bulkhead1.<base64url>`, `bulkhead-admin1.<base64url>` and `bulkhead-key1.<base64url>` of the minicbor array
//! `[SHA-256 of the trust document, [host:port of coordinators], secret]`.
//!
//! An invitation, `bulkhead-invite1.<base64url>`, is the same without a secret: enough to find the deployment and to
//! know it, for whoever proves who they are in another way.
//!
//! The hash pins the deployment before anything is said to it. The secret is in no `Debug`, no error, and is
//! zeroized.

use bulkhead_identity::TrustHash;
use data_encoding::BASE64URL_NOPAD;
use minicbor::{Decoder, Encoder};
use std::net::{Ipv4Addr, Ipv6Addr};
use zeroize::Zeroizing;

/// Longest token text that is looked at.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// Most coordinators in one token.
pub const MAX_COORDINATORS: usize = 8;
/// Longest `host:port`: a DNS name of 253 bytes, a colon and five digits.
pub const MAX_ADDRESS_BYTES: usize = 259;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Makes a node.
    Join,
    /// Makes the first administrator.
    Admin,
    /// Speaks for an administrator until it expires.
    ApiKey,
}

impl TokenKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Join => "bulkhead1.",
            Self::Admin => "bulkhead-admin1.",
            Self::ApiKey => "bulkhead-key1.",
        }
    }
}

/// A parsed token. No `Debug`, because of the secret.
pub struct Token {
    /// What it is for.
    pub kind: TokenKind,
    /// Pins the trust document.
    pub trust: TrustHash,
    /// `host:port` of HTTPS; the same port number over UDP is the control link.
    pub coordinators: Vec<String>,
    /// 256 bits.
    pub secret: Zeroizing<[u8; 32]>,
}

const INVITATION: &str = "bulkhead-invite1.";

/// Where a deployment is, and which it is: first contact for people who sign in, and for workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Pins the trust document.
    pub trust: TrustHash,
    /// `host:port` of HTTPS, as in a [`Token`].
    pub coordinators: Vec<String>,
}

/// Why a text is no token. Never contains any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(pub &'static str);

impl Token {
    /// Reads a token; white space around it is ignored.
    ///
    /// # Errors
    /// When the text is not a whole token of either kind.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (kind, body) = split(bounded(text)?)?;
        let body = body_of(body)?;
        Self::decode(kind, &body).map_err(|_| DAMAGED)
    }

    fn decode(kind: TokenKind, body: &[u8]) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        let mut d = Decoder::new(body);
        let Invitation { trust, coordinators } = Invitation::decode_fields(&mut d, 3)?;
        let mut secret = Zeroizing::new([0; 32]);
        let bytes = d.bytes()?;
        if bytes.len() != secret.len() || d.position() != body.len() {
            return Err(Error::message("secret of wrong length"));
        }
        secret.copy_from_slice(bytes);
        Ok(Self { kind, trust, coordinators, secret })
    }

    /// The token as text, on one line.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        // Sized once: a growing buffer would leave copies of the secret behind.
        let size = 128 + self.coordinators.iter().map(|address| address.len() + 3).sum::<usize>();
        let mut e = Encoder::new(Vec::with_capacity(size));
        let count = self.coordinators.len() as u64;
        let written = (|| {
            e.array(3)?.bytes(&self.trust.0)?.array(count)?;
            for address in &self.coordinators {
                e.str(address)?;
            }
            e.bytes(self.secret.as_ref())?.ok()
        })();
        written.expect("writing to a Vec cannot fail");
        let body = Zeroizing::new(e.into_writer());
        let prefix = self.kind.prefix();
        let mut text = String::with_capacity(prefix.len() + BASE64URL_NOPAD.encode_len(body.len()));
        text.push_str(prefix);
        BASE64URL_NOPAD.encode_append(&body, &mut text);
        Zeroizing::new(text)
    }
}

impl Invitation {
    /// Reads an invitation; white space around it is ignored.
    ///
    /// # Errors
    /// When the text is not a whole invitation.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let body = bounded(text)?.strip_prefix(INVITATION);
        let body =
            body.ok_or(TokenError("this is no invitation: it does not start with `bulkhead-invite1.`"))?;
        let body = body_of(body)?;
        let mut d = Decoder::new(&body);
        match Self::decode_fields(&mut d, 2) {
            Ok(invitation) if d.position() == body.len() => Ok(invitation),
            Ok(_) | Err(_) => Err(DAMAGED),
        }
    }

    /// The hash and the addresses, of an array of so many fields.
    fn decode_fields(d: &mut Decoder<'_>, fields: u64) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        if d.array()? != Some(fields) {
            return Err(Error::message("number of fields"));
        }
        let trust = d.bytes()?.try_into().map_err(|_| Error::message("hash of wrong length"))?;
        let count = d.array()?.and_then(|count| usize::try_from(count).ok());
        let Some(count @ 1..=MAX_COORDINATORS) = count else {
            return Err(Error::message("number of coordinators"));
        };
        let mut coordinators = Vec::with_capacity(count);
        for _ in 0..count {
            let address = d.str()?;
            if !is_address(address) {
                return Err(Error::message("not host:port"));
            }
            coordinators.push(address.to_owned());
        }
        Ok(Self { trust: TrustHash(trust), coordinators })
    }

    /// The invitation as text, on one line.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut e = Encoder::new(Vec::new());
        let written = (|| {
            e.array(2)?.bytes(&self.trust.0)?.array(self.coordinators.len() as u64)?;
            for address in &self.coordinators {
                e.str(address)?;
            }
            e.ok()
        })();
        written.expect("writing to a Vec cannot fail");
        format!("{INVITATION}{}", BASE64URL_NOPAD.encode(&e.into_writer()))
    }
}

const DAMAGED: TokenError = TokenError("the token is damaged: copy it again, whole and on one line");

fn bounded(text: &str) -> Result<&str, TokenError> {
    let text = text.trim();
    if text.len() > MAX_TOKEN_BYTES { Err(TokenError("this text is too long for a token")) } else { Ok(text) }
}

fn body_of(text: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| DAMAGED)
}

fn split(text: &str) -> Result<(TokenKind, &str), TokenError> {
    for kind in [TokenKind::Join, TokenKind::Admin, TokenKind::ApiKey] {
        if let Some(body) = text.strip_prefix(kind.prefix()) {
            return Ok((kind, body));
        }
    }
    if text.starts_with(INVITATION) {
        return Err(TokenError(
            "this is an invitation, which carries no right: use it with `--invitation FILE --sso`",
        ));
    }
    Err(TokenError(
        "this is no token: it starts with none of `bulkhead1.`, `bulkhead-admin1.` and `bulkhead-key1.`",
    ))
}

/// Whether this is `host:port`, host being a DNS name, an IPv4 address, or an IPv6 address in brackets.
#[must_use]
pub fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let port_fits = port.parse::<u16>().is_ok_and(|port| port != 0) && !port.starts_with('+');
    address.len() <= MAX_ADDRESS_BYTES && port_fits && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(ip) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return ip.parse::<Ipv6Addr>().is_ok();
    }
    host.parse::<Ipv4Addr>().is_ok() || host.split('.').all(is_dns_label)
}

fn is_dns_label(label: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inside)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// What is stored of a secret: its SHA-256. The secrets are 256 random bits, so no slow hash is needed.
#[must_use]
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, secret).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn token(kind: TokenKind, coordinators: &[&str], secret: [u8; 32]) -> Token {
        let coordinators = coordinators.iter().map(|&address| address.to_owned()).collect();
        Token { kind, trust: TrustHash([7; 32]), coordinators, secret: Zeroizing::new(secret) }
    }

    proptest! {
        #[test]
        fn a_token_parses_to_what_was_encoded(secret: [u8; 32], kind in 0_usize..3, count in 1..=MAX_COORDINATORS) {
            let kind = [TokenKind::Join, TokenKind::Admin, TokenKind::ApiKey][kind];
            let sent = token(kind, &vec!["bulkhead.acme.example:8443"; count], secret);
            let read = Token::parse(&format!("  {}\n", *sent.encode())).unwrap();
            prop_assert_eq!(read.kind, kind);
            prop_assert_eq!(read.trust, sent.trust);
            prop_assert_eq!(read.coordinators, sent.coordinators);
            prop_assert_eq!(*read.secret, secret);
        }

        #[test]
        fn an_invitation_parses_to_what_was_encoded(hash: [u8; 32], count in 1..=MAX_COORDINATORS) {
            let coordinators = vec!["bulkhead.acme.example:8443".to_owned(); count];
            let sent = Invitation { trust: TrustHash(hash), coordinators };
            let text = sent.encode();
            prop_assert_eq!(Invitation::parse(&format!(" {text}\n")), Ok(sent));
            prop_assert!(Invitation::parse(&text[..text.len() - 1]).is_err());
            prop_assert!(Token::parse(&text).is_err());
        }

        #[test]
        fn any_text_is_parsed_or_refused(text: String, bytes: Vec<u8>) {
            let _ = Token::parse(&text);
            let _ = Invitation::parse(&format!("bulkhead-invite1.{}", BASE64URL_NOPAD.encode(&bytes)));
            let _ = Token::parse(&format!("bulkhead1.{text}"));
            let _ = Token::parse(&format!("bulkhead1.{}", BASE64URL_NOPAD.encode(&bytes)));
        }

        #[test]
        fn a_shortened_token_is_refused(cut in 1usize..80) {
            let text = token(TokenKind::Join, &["192.0.2.1:8443"], [3; 32]).encode();
            prop_assert!(Token::parse(&text[..text.len() - cut]).is_err());
        }
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["bulkhead.acme.example:8443", "192.0.2.1:1", "[2001:db8::1]:65535", "localhost:8443"] {
            assert!(is_address(good), "{good}");
        }
        let bad =
            ["", ":8443", "a", "a:0", "a:65536", "a b:1", "a/b:1", "2001:db8::1:1", "-a:1", "a:+1", "u@a:1"];
        for bad in bad {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn an_error_contains_nothing_of_the_token() {
        let error = Token::parse("bulkhead1.hunter2hunter2!").err().unwrap();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_token_is_no_invitation() {
        let text = token(TokenKind::Join, &["192.0.2.1:8443"], [3; 32]).encode();
        assert!(Invitation::parse(&text).is_err());
        assert!(Invitation::parse(&text.replace("bulkhead1.", "bulkhead-invite1.")).is_err());
    }

    #[test]
    fn a_token_without_a_coordinator_is_refused() {
        let text = token(TokenKind::Join, &[], [3; 32]).encode();
        assert!(Token::parse(&text).is_err());
    }
}
