//! D11 and D12: how often a provider is asked, and where a fetch does not go.

use super::keys::Key;
use super::provider::{Provider, REDIRECT};
use super::sign_in;
use crate::sso::fetch::FetchError;
use crate::sso::{ProviderConfig, Providers, SsoError};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What a sign-in says when the provider describes itself like this.
async fn described(change: impl FnOnce(&mut Value)) -> (Provider, SsoError) {
    let provider = Provider::start().await;
    change(&mut provider.behaviour().description);
    let refused = sign_in(&provider, &provider.providers()).await.unwrap_err();
    (provider, refused)
}

#[tokio::test]
async fn d11_unknown_key_ids_do_not_hammer_the_provider() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let token = provider.behaviour().workload();
    providers.workload(&token).await.unwrap();
    for n in 0..50 {
        let claims = provider.behaviour().claims(super::provider::AUDIENCE, None);
        let refused =
            providers.workload(&Key::ec().token(&format!("unknown-{n}"), &claims)).await.unwrap_err();
        assert!(refused.to_string().contains("No matching key"), "{refused}");
    }
    assert_eq!(provider.asked("/keys"), 1, "keys that were fetched within the minute are not fetched again");
    providers.workload(&token).await.unwrap();
    assert_eq!(provider.asked("/.well-known/openid-configuration"), 1);
}

#[tokio::test]
async fn d11_a_provider_that_fails_is_left_alone_for_a_minute() {
    let (provider, refused) =
        described(|description| description["issuer"] = "https://evil.example".into()).await;
    assert!(matches!(refused, SsoError::Misconfigured { .. }), "{refused}");
    let providers = provider.providers();
    for _ in 0..20 {
        assert!(providers.authorize("acme", REDIRECT).await.is_err());
    }
    let last = providers.authorize("acme", REDIRECT).await.unwrap_err();
    assert!(matches!(&last, SsoError::Resting { reason, .. } if reason.contains("evil.example")), "{last}");
    assert_eq!(provider.asked("/.well-known/openid-configuration"), 2, "one for each `Providers`");
}

#[tokio::test]
async fn d12_an_issuer_inside_is_not_asked_unless_it_may_be_there() {
    let provider = Provider::start().await;
    let port = provider.issuer.rsplit_once(':').unwrap().1;
    // By name, by address, and by names that only resolve to the inside.
    for host in
        ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1"]
    {
        let config = ProviderConfig {
            issuer: format!("https://{host}:{port}"),
            private_addresses: false,
            ..provider.config("acme")
        };
        let providers = Providers::load(&[config]).unwrap();
        let refused = providers.authorize("acme", REDIRECT).await.unwrap_err();
        let inside = matches!(refused, SsoError::Unreachable { source: FetchError::Inside(..), .. });
        let no_name = matches!(refused, SsoError::Unreachable { source: FetchError::Resolve(..), .. });
        assert!(inside || no_name, "{host}: {refused}");
    }
    assert_eq!(provider.asked("/.well-known/openid-configuration"), 0);
    sign_in(&provider, &provider.providers()).await.unwrap();
}

#[tokio::test]
async fn d12_keys_inside_or_in_the_clear_are_not_fetched() {
    for address in
        ["http://169.254.169.254/latest", "file:///etc/passwd", "https://user@localhost/keys", "//localhost"]
    {
        let (_, refused) = described(|description| description["jwks_uri"] = address.into()).await;
        assert!(matches!(refused, SsoError::Misconfigured { .. }), "{address}: {refused}");
    }
    // Never, whatever is allowed: addresses that nothing can be at.
    for address in
        ["https://0.0.0.0:1/", "https://[::]:1/", "https://[::ffff:127.0.0.1]:1/", "https://224.0.0.1:1/"]
    {
        let (_, refused) = described(|description| description["jwks_uri"] = address.into()).await;
        let inside = matches!(refused, SsoError::Unreachable { source: FetchError::Inside(..), .. });
        assert!(inside, "{address}: {refused}");
    }
}

#[tokio::test]
async fn d12_no_redirect_is_followed() {
    let elsewhere = Provider::start().await;
    for path in ["/.well-known/openid-configuration", "/keys", "/token"] {
        for status in [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT] {
            let provider = Provider::start().await;
            let target = format!("{}{path}", elsewhere.issuer);
            provider.behaviour().reply = Box::new(move |asked, _| {
                (asked == path).then(|| (status, [(LOCATION, target.clone())]).into_response())
            });
            let refused = sign_in(&provider, &provider.providers()).await.unwrap_err();
            let redirected = matches!(refused, SsoError::Unreachable { source: FetchError::Redirect(_), .. });
            assert!(redirected, "{path}: {refused}");
            assert_eq!(elsewhere.asked(path), 0);
        }
    }
}

#[tokio::test]
async fn d12_an_answer_is_bounded() {
    let provider = Provider::start().await;
    provider.behaviour().reply =
        Box::new(|path, _| (path == "/keys").then(|| vec![b' '; 1024 * 1024 + 1].into_response()));
    let refused = sign_in(&provider, &provider.providers()).await.unwrap_err();
    assert!(matches!(refused, SsoError::Unreachable { source: FetchError::TooLarge(_), .. }), "{refused}");
    let keys: Vec<Value> = (0..101).map(|n| json!({ "kty": "EC", "kid": n.to_string() })).collect();
    provider.behaviour().reply = Box::new(|_, _| None);
    provider.behaviour().keys = keys;
    let refused = sign_in(&provider, &provider.providers()).await.unwrap_err();
    assert!(refused.to_string().contains("more than 100 keys"), "{refused}");
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_asked() {
    let (ours, other) = (Provider::start().await, Provider::start().await);
    let config = ProviderConfig { ca: other.config("x").ca, ..ours.config("acme") };
    let refused = Providers::load(&[config]).unwrap().authorize("acme", REDIRECT).await.unwrap_err();
    assert!(matches!(refused, SsoError::Unreachable { source: FetchError::Tls(..), .. }), "{refused}");
    assert_eq!(ours.asked("/.well-known/openid-configuration"), 0);
    // The certificate is for the name, and an address is not the name.
    let issuer = ours.issuer.replace("localhost", "127.0.0.1");
    let config = ProviderConfig { issuer, ..ours.config("acme") };
    let refused = Providers::load(&[config]).unwrap().authorize("acme", REDIRECT).await.unwrap_err();
    assert!(matches!(refused, SsoError::Unreachable { source: FetchError::Tls(..), .. }), "{refused}");
}

#[tokio::test]
async fn a_server_that_hangs_up_has_said_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Provider::start().await;
    let config = ProviderConfig { issuer: format!("https://localhost:{port}"), ..provider.config("acme") };
    let providers = Providers::load(&[config]).unwrap();
    let (refused, ()) = tokio::join!(providers.authorize("acme", REDIRECT), async {
        drop(listener.accept().await.unwrap());
    });
    assert!(matches!(refused, Err(SsoError::Unreachable { .. })));
}
