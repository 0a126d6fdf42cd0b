//! What every answer carries, whatever it is: nothing is loaded, framed, run, kept or told to others (D16).

use crate::web::pages::STYLE;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use data_encoding::BASE64;
use std::sync::LazyLock;

/// One style sheet, by its hash (CSP level 3, section 2.3.1), and forms that come back to us.
///
/// `form-action` names no provider. Browsers apply it to every redirect that follows a form, and a provider may
/// send people on to whoever keeps their passwords; so no form leads away: see [`crate::web::pages::leaving`].
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
    let text = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        BASE64.encode(digest.as_ref())
    );
    HeaderValue::from_str(&text).expect("base64 and our own words are ASCII")
});

const OTHERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Puts them on.
pub(super) async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in OTHERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
