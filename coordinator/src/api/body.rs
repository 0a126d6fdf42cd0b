//! Reading bodies: the limit is enforced before a byte is kept, and again while reading; unknown fields and
//! duplicate keys are refused by the types (S2, G5).

use super::{Api, Problem};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Largest body of an ordinary request.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// Largest body that carries policy text: ten megabytes of text, and its escapes.
pub(super) const MAX_POLICY_BODY_BYTES: usize = 24 * 1024 * 1024;

/// Largest body that carries policy text with what was signed elsewhere, in base64.
pub(super) const MAX_SIGNED_BODY_BYTES: usize = 48 * 1024 * 1024;

/// Reads an ordinary body.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    parse(request, MAX_BODY_BYTES).await
}

/// Reads a body that may be large; few of them at a time.
pub(super) async fn read_large<T: DeserializeOwned>(
    api: &Api,
    request: Request,
    limit: usize,
) -> Result<T, Problem> {
    let _turn = api.large_bodies.acquire().await;
    parse(request, limit).await
}

async fn parse<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    plain_json(&parts.headers)?;
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    // Bodies carry join tokens and bootstrap secrets.
    let bytes = Zeroizing::new(collect(body, limit).await?);
    // serde reads a list as an object's fields in order: nobody means that.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::malformed("the body must be a JSON object"));
    }
    serde_json::from_slice(&bytes)
        .map_err(|e| Problem::malformed(format!("the body is not what this path takes: {e}")))
}

async fn collect(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    match axum::body::to_bytes(body, limit).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if is_limit(&error) => Err(too_large(limit)),
        Err(_) => Err(Problem::malformed("the body ended early")),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|e| e.is::<http_body_util::LengthLimitError>())
}

fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BH-R083", format!("the body is larger than {limit} bytes"))
}

/// Nothing is decompressed: a small body stays small.
fn plain_json(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        let what = "compressed bodies are not accepted";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BH-R085", what));
    }
    let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let what = "the body must be JSON, with content-type application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BH-R086", what))
}
