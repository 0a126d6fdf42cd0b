//! What stands in a path for a placeholder: a name, a number, an id, a hash. Each is read by its type, and whatever
//! is none is told so in the words of every other error.

use super::{Api, Problem};
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use bulkhead_identity::{NodeName, TrustHash};
use data_encoding::HEXLOWER;

/// Longest id of a token or a key.
const MAX_ID_BYTES: usize = 64;

/// What is written in the path, and understood.
pub(super) trait Written: Sized {
    /// Reads the decoded text.
    fn read(text: &str) -> Result<Self, String>;
}

impl Written for NodeName {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }
}

impl Written for u64 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "this path ends in a number".to_owned())
    }
}

impl Written for TrustHash {
    fn read(text: &str) -> Result<Self, String> {
        let hash = HEXLOWER.decode(text.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
        hash.map(TrustHash).ok_or_else(|| "a trust hash is 64 hexadecimal digits".to_owned())
    }
}

/// The id of a token or a key. It is looked up and quoted in refusals, so it is short and plain.
impl Written for String {
    fn read(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        match (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(format!("an id is letters, digits, `-` and `_`, at most {MAX_ID_BYTES}")),
        }
    }
}

/// The one placeholder of a route's path.
pub(super) struct Segment<T>(pub(super) T);

impl<T: Written> FromRequestParts<Api> for Segment<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let segments = RawPathParams::from_request_parts(parts, api).await;
        let segments = segments.map_err(|_| Problem::malformed("the path is not UTF-8"))?;
        let text = segments.iter().next().map_or("", |(_, text)| text);
        T::read(text).map(Self).map_err(Problem::malformed)
    }
}
