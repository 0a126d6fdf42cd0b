//! The parts of a JSON Web Token that are read without `openidconnect`: its size, the claims that were signed, and
//! `nbf`. Nothing here verifies a signature.

use super::{SsoError, json};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};
use std::time::Duration;

/// Bytes of a token: room for 2000 groups.
pub(super) const MAX_TOKEN_BYTES: usize = 256 * 1024;
/// A provider's clock may be this far from ours.
pub(super) const MAX_SKEW: Duration = Duration::from_secs(60);

/// What a token says, as bytes: the very bytes that its signature is about.
///
/// # Errors
/// It is too large, or no token.
pub(super) fn payload(token: &str) -> Result<Vec<u8>, SsoError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(refused("it is too large; have the provider send fewer groups"));
    }
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refused("it is not a JSON Web Token"));
    };
    BASE64URL_NOPAD.decode(payload.as_bytes()).map_err(|_| refused("it is not a JSON Web Token"))
}

/// The claims in a payload.
///
/// # Errors
/// It is not one object with each name once.
pub(super) fn claims(payload: &[u8]) -> Result<Map<String, Value>, SsoError> {
    json::object(payload).map_err(|_| refused("its claims are not one JSON object with each name once"))
}

/// Checks `nbf`, which `openidconnect` does not look at (RFC 7519, section 4.1.5).
///
/// # Errors
/// It is in the future, or no number.
pub(super) fn not_early(claims: &Map<String, Value>) -> Result<(), SsoError> {
    // A fraction of a second is cut off, as everywhere.
    let moment = |value: &Value| value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    let from = claims.get("nbf").map(|from| moment(from).unwrap_or(i64::MAX));
    if from.is_some_and(|from| from > latest()) { Err(refused("it is not valid yet")) } else { Ok(()) }
}

/// Unix seconds by the slowest clock that a provider may have: what ended before that has ended.
pub(super) fn earliest() -> i64 {
    wall().saturating_sub(skew())
}

/// Unix seconds by the fastest clock that a provider may have: what begins after that has not begun.
pub(super) fn latest() -> i64 {
    wall().saturating_add(skew())
}

fn wall() -> i64 {
    i64::try_from(crate::clock::wall().0).unwrap_or(i64::MAX)
}

fn skew() -> i64 {
    i64::try_from(MAX_SKEW.as_secs()).unwrap_or(0)
}

fn refused(why: &str) -> SsoError {
    SsoError::Token(why.to_owned())
}
