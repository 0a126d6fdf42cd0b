//! What a provider says of itself (OpenID Connect Discovery 1.0), as far as we use it. It speaks for the configured
//! issuer and for no other, and every address in it is https.

use super::json;
use hyper::Uri;
use serde::Deserialize;
use serde_json::Value;

/// Where an issuer describes itself.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// A provider's description.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Discovery {
    /// Exactly the configured one.
    pub issuer: String,
    /// Where browsers go; issuers of workload tokens have none.
    pub authorization_endpoint: Option<String>,
    /// Where codes and refresh tokens are exchanged.
    pub token_endpoint: Option<String>,
    /// Where its own device flow begins (RFC 8628).
    pub device_authorization_endpoint: Option<String>,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Algorithms that it signs with.
    #[serde(default)]
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// How a client shows its secret.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether its answers name it (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// A description that is not believed.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It is no such document.
    #[error("its description at {WELL_KNOWN} is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is of another issuer.
    #[error(
        "its description is of the issuer {found:?}, but {expected:?} is configured; the two must be the same to the letter"
    )]
    Issuer {
        /// What it says.
        found: String,
        /// What the configuration says.
        expected: String,
    },
    /// An address in it is not https.
    #[error("its {0} is not an https address")]
    NotHttps(&'static str),
}

/// Where `issuer` describes itself.
#[must_use]
pub fn address(issuer: &str) -> String {
    format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/'))
}

/// Reads the description of `issuer`.
///
/// # Errors
/// See [`DiscoveryError`].
pub fn parse(body: &[u8], issuer: &str) -> Result<Discovery, DiscoveryError> {
    let found: Discovery = serde_json::from_value(Value::Object(json::object(body)?))?;
    if found.issuer != issuer {
        let found = super::printable(&found.issuer, 200);
        return Err(DiscoveryError::Issuer { found, expected: issuer.to_owned() });
    }
    let addresses = [
        ("authorization_endpoint", found.authorization_endpoint.as_deref()),
        ("token_endpoint", found.token_endpoint.as_deref()),
        ("device_authorization_endpoint", found.device_authorization_endpoint.as_deref()),
        ("jwks_uri", Some(found.jwks_uri.as_str())),
    ];
    let mut strange =
        addresses.iter().filter(|(_, address)| address.is_some_and(|address| !is_https(address)));
    match strange.next().map(|(name, _)| *name) {
        Some(name) => Err(DiscoveryError::NotHttps(name)),
        None => Ok(found),
    }
}

/// Whether this is an https address without user or password.
#[must_use]
pub fn is_https(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return false };
    let host = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    uri.scheme_str() == Some("https") && host.is_some_and(|authority| !authority.host().is_empty())
}

/// Whether this can be an issuer: https, without query or fragment (OpenID Connect Discovery 1.0, section 3).
#[must_use]
pub fn is_issuer(text: &str) -> bool {
    is_https(text) && !text.contains(['?', '#'])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const ISSUER: &str = "https://idp.example";

    fn read(change: impl FnOnce(&mut Value)) -> Result<Discovery, DiscoveryError> {
        let mut document = json!({
            "issuer": ISSUER, "authorization_endpoint": "https://idp.example/auth",
            "token_endpoint": "https://idp.example/token", "jwks_uri": "https://idp.example/keys",
            "id_token_signing_alg_values_supported": ["RS256"], "unknown": {},
        });
        change(&mut document);
        parse(document.to_string().as_bytes(), ISSUER)
    }

    #[test]
    fn d3_the_issuer_is_the_configured_one_to_the_letter() {
        assert!(read(|_| ()).is_ok());
        for other in
            ["https://idp.example/", "https://IDP.example", "http://idp.example", "", "https://evil.example"]
        {
            let refused = read(|document| document["issuer"] = other.into());
            assert!(matches!(refused, Err(DiscoveryError::Issuer { .. })), "{other}");
        }
        assert!(
            parse(br#"{"issuer":"https://idp.example","issuer":"x","jwks_uri":"https://a"}"#, ISSUER)
                .is_err()
        );
    }

    #[test]
    fn d12_every_address_is_https() {
        for name in ["authorization_endpoint", "token_endpoint", "device_authorization_endpoint", "jwks_uri"]
        {
            for other in
                ["http://idp.example/x", "file:///etc/passwd", "/x", "https://a@b/", "javascript:1", ""]
            {
                let refused = read(|document| document[name] = other.into());
                assert!(matches!(refused, Err(DiscoveryError::NotHttps(n)) if n == name), "{name} {other}");
            }
        }
    }

    #[test]
    fn an_issuer_of_workload_tokens_needs_no_more_than_keys() {
        let minimal = json!({ "issuer": ISSUER, "jwks_uri": "https://idp.example/keys" }).to_string();
        assert_eq!(parse(minimal.as_bytes(), ISSUER).unwrap().token_endpoint, None);
        assert_eq!(
            address("https://idp.example/realms/x/"),
            "https://idp.example/realms/x/.well-known/openid-configuration"
        );
        assert!(is_issuer(ISSUER) && !is_issuer("https://idp.example?x") && !is_issuer("http://idp.example"));
    }
}
