//! Sign-ins from begin to end: what belongs together, what is good once, what a provider's no is.

use super::provider::{Provider, REDIRECT, refuse};
use super::sign_in;
use crate::sso::oidc::Callback;
use crate::sso::{Providers, SsoError};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn d4_a_code_of_one_provider_is_not_sent_to_another() {
    let (ours, evil) = (Provider::start().await, Provider::start().await);
    let providers = Providers::load(&[ours.config("acme"), evil.config("evil")]).unwrap();
    let (_, attempt) = providers.authorize("evil", REDIRECT).await.unwrap();
    let (honest_url, _) = providers.authorize("acme", REDIRECT).await.unwrap();
    // The person agreed at acme; the browser is made to bring that code back to the attempt at evil.
    let callback = Callback { state: Some(attempt.state().to_owned()), ..ours.agree(&honest_url) };
    let refused = providers.finish(attempt, &callback).await.unwrap_err();
    assert!(matches!(refused, SsoError::Callback(_)), "{refused}");
    assert_eq!(evil.asked("/token"), 0, "the code was never told");
}

#[tokio::test]
async fn d4_a_code_of_one_provider_is_worth_nothing_at_another() {
    let (ours, evil) = (Provider::start().await, Provider::start().await);
    let providers = Providers::load(&[ours.config("acme"), evil.config("evil")]).unwrap();
    // Even where no answer names its issuer: code and verifier belong to one attempt.
    for provider in [&ours, &evil] {
        provider.behaviour().description["authorization_response_iss_parameter_supported"] = json!(false);
    }
    let (_, attempt) = providers.authorize("acme", REDIRECT).await.unwrap();
    let (evil_url, _) = providers.authorize("evil", REDIRECT).await.unwrap();
    let callback = Callback { state: Some(attempt.state().to_owned()), iss: None, ..evil.agree(&evil_url) };
    let refused = providers.finish(attempt, &callback).await.unwrap_err();
    assert!(refused.is_denied(), "{refused}");
}

#[tokio::test]
async fn d4_a_provider_that_names_itself_must_do_so() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let attempt = async |iss: Option<String>| {
        let (url, attempt) = providers.authorize("acme", REDIRECT).await.unwrap();
        providers.finish(attempt, &Callback { iss, ..provider.agree(&url) }).await
    };
    for other in [
        None,
        Some(String::new()),
        Some(format!("{}/", provider.issuer)),
        Some("https://evil.example".into()),
    ] {
        let refused = attempt(other.clone()).await.unwrap_err();
        assert!(matches!(refused, SsoError::Callback(_)), "{other:?}: {refused}");
    }
    assert_eq!(provider.asked("/token"), 0);
    attempt(Some(provider.issuer.clone())).await.unwrap();
}

#[tokio::test]
async fn d5_a_code_is_good_once_and_only_with_its_verifier() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let (url, attempt) = providers.authorize("acme", REDIRECT).await.unwrap();
    let used = provider.agree(&url);
    providers.finish(attempt, &used).await.unwrap();
    let (_, other) = providers.authorize("acme", REDIRECT).await.unwrap();
    let replayed = Callback { state: Some(other.state().to_owned()), ..used };
    assert!(providers.finish(other, &replayed).await.unwrap_err().is_denied(), "a used code");

    let (url, _) = providers.authorize("acme", REDIRECT).await.unwrap();
    let (_, thief) = providers.authorize("acme", REDIRECT).await.unwrap();
    let stolen = Callback { state: Some(thief.state().to_owned()), ..provider.agree(&url) };
    assert!(providers.finish(thief, &stolen).await.unwrap_err().is_denied(), "a code without its verifier");
}

#[tokio::test]
async fn d6_a_callback_without_the_state_of_its_attempt_is_refused() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let (earlier, _) = providers.authorize("acme", REDIRECT).await.unwrap();
    let replayed = provider.agree(&earlier).state;
    for state in [None, Some(String::new()), Some("fixed".to_owned()), replayed] {
        let (url, attempt) = providers.authorize("acme", REDIRECT).await.unwrap();
        let refused =
            providers.finish(attempt, &Callback { state, ..provider.agree(&url) }).await.unwrap_err();
        assert!(matches!(refused, SsoError::Callback(_)), "{refused}");
    }
    assert_eq!(provider.asked("/token"), 0);
}

#[tokio::test]
async fn the_client_shows_its_secret_as_the_provider_takes_it() {
    for (methods, client) in [
        (json!(null), "basic"),
        (json!(["client_secret_basic", "client_secret_post"]), "basic"),
        (json!(["client_secret_post"]), "post"),
    ] {
        let provider = Provider::start().await;
        provider.behaviour().description["token_endpoint_auth_methods_supported"] = methods;
        provider.behaviour().client = client;
        sign_in(&provider, &provider.providers()).await.unwrap();
    }
    let provider = Provider::start().await;
    provider.behaviour().client = "public";
    let config = crate::sso::ProviderConfig { client_secret_file: None, ..provider.config("acme") };
    sign_in(&provider, &Providers::load(&[config]).unwrap()).await.unwrap();
    let refused = sign_in(&provider, &provider.providers()).await.unwrap_err();
    assert!(matches!(refused, SsoError::Misconfigured { .. }), "our fault, not the person's: {refused}");
}

#[tokio::test]
async fn a_person_who_does_not_agree_is_told_so_in_printable_words() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let (url, attempt) = providers.authorize("acme", REDIRECT).await.unwrap();
    let error = Some("access_denied".to_owned());
    let callback =
        Callback { code: None, error, error_description: Some("\u{1b}[2Jno".into()), ..provider.agree(&url) };
    let refused = providers.finish(attempt, &callback).await.unwrap_err();
    assert!(refused.is_denied());
    assert_eq!(refused.to_string(), "the provider acme refused: access_denied \u{fffd}[2Jno");
}

#[tokio::test]
async fn the_devices_flow_of_the_provider_waits_and_signs_in() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let attempt = providers.device_begin("acme").await.unwrap();
    assert_eq!(attempt.user_code(), "ABCD-EFGH");
    let ada = providers.device_wait(attempt).await.unwrap();
    assert_eq!((ada.claims.subject.as_str(), provider.asked("/token")), ("u-123", 2));

    let without =
        Providers::load(&[crate::sso::ProviderConfig { device_flow: false, ..provider.config("acme") }]);
    assert!(matches!(without.unwrap().device_begin("acme").await, Err(SsoError::NoProvider(_))));
}

#[tokio::test]
async fn a_hostile_begin_of_a_device_flow_is_refused() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let hostile = [
        ("verification_uri", json!("http://idp.example")),
        ("verification_uri", json!("javascript:alert(1)")),
        ("verification_uri_complete", json!("file:///etc/passwd")),
        ("interval", json!(u64::MAX)),
        ("user_code", json!("AB\u{1b}[2J")),
    ];
    for (name, value) in hostile {
        let mut begin = json!({
            "device_code": "d", "user_code": "A", "verification_uri": "https://idp.example/link", "expires_in": u64::MAX,
        });
        begin[name] = value;
        provider.behaviour().reply =
            Box::new(move |path, _| (path == "/device").then(|| axum::Json(&begin).into_response()));
        let refused = providers.device_begin("acme").await.unwrap_err();
        assert!(matches!(refused, SsoError::Misconfigured { .. }), "{name}: {refused}");
    }
}

#[tokio::test]
async fn a_refresh_tells_a_denial_from_silence() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let token = sign_in(&provider, &providers).await.unwrap().refresh.unwrap();
    provider.behaviour().person["groups"] = json!([]);
    let renewed = providers.refresh("acme", "u-123", &token).await.unwrap();
    assert!(renewed.claims.unwrap().groups.is_empty());
    let used = providers.refresh("acme", "u-123", &token).await.unwrap_err();
    assert!(used.is_denied(), "{used}");

    let next = renewed.refresh.unwrap();
    let silences = ["invalid_client", "unauthorized_client", "server_error", "temporarily_unavailable"];
    for error in silences {
        provider.behaviour().reply = Box::new(move |path, _| (path == "/token").then(|| refuse(error)));
        let silent = providers.refresh("acme", "u-123", &next).await.unwrap_err();
        assert!(!silent.is_denied(), "{error}: {silent}");
    }
    for reply in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::NOT_FOUND, StatusCode::OK, StatusCode::FOUND]
    {
        provider.behaviour().reply =
            Box::new(move |path, _| (path == "/token").then(|| (reply, "<html>").into_response()));
        assert!(!providers.refresh("acme", "u-123", &next).await.unwrap_err().is_denied());
    }
    for status in [
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::BAD_GATEWAY,
        StatusCode::FORBIDDEN,
        StatusCode::TOO_MANY_REQUESTS,
    ] {
        let denial = json!({ "error": "access_denied" });
        provider.behaviour().reply = Box::new(move |path, _| {
            (path == "/token").then(|| (status, axum::Json(&denial)).into_response())
        });
        let failed = providers.refresh("acme", "u-123", &next).await.unwrap_err();
        assert!(matches!(failed, SsoError::Unreachable { .. }), "a gateway knows nobody: {failed}");
    }
    provider.behaviour().reply = Box::new(|_, _| None);
    provider.behaviour().person["sub"] = "u-456".into();
    let other = providers.refresh("acme", "u-123", &next).await.unwrap().claims.unwrap_err();
    assert!(matches!(other, SsoError::Token(_)), "another person's answer is not a denial either: {other}");
}

#[tokio::test]
async fn a_refresh_that_is_not_believed_changes_nothing_and_costs_no_token() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let mut token = sign_in(&provider, &providers).await.unwrap().refresh.unwrap();
    let honest = provider.behaviour().person.clone();
    let mut refresh = async || {
        let answer = providers.refresh("acme", "u-123", &token).await.unwrap();
        token = answer.refresh.unwrap();
        answer.claims
    };
    for (name, value) in [
        ("groups", json!({ "too": "many" })),
        ("sub", json!("u-456")),
        ("iat", json!(super::provider::now() + 3600)),
    ] {
        provider.behaviour().person[name] = value;
        let refused = refresh().await.unwrap_err();
        assert!(!refused.is_denied(), "{name}: {refused}");
        provider.behaviour().person = honest.clone();
    }
    // An answer without an ID token is one (OpenID Connect Core 1.0, section 12.2).
    provider.behaviour().with_id_token = false;
    assert!(matches!(refresh().await, Err(SsoError::Misconfigured { .. })));
    provider.behaviour().with_id_token = true;
    assert_eq!(refresh().await.unwrap().subject, "u-123");
}

#[tokio::test]
async fn a_refresh_token_is_kept_only_where_it_was_asked_for() {
    let provider = Provider::start().await;
    let config = crate::sso::ProviderConfig { scopes: vec!["groups".to_owned()], ..provider.config("acme") };
    let providers = Providers::load(&[config]).unwrap();
    let attempt = providers.device_begin("acme").await.unwrap();
    let ada = providers.device_wait(attempt).await.unwrap();
    assert_eq!(ada.refresh, None, "the provider gave one; it ends with the person's session there");
}

#[test]
fn providers_that_cannot_be_told_apart_are_refused() {
    let config = |name: &str, issuer: &str, audience: Option<&str>| crate::sso::ProviderConfig {
        name: name.to_owned(),
        issuer: issuer.to_owned(),
        client_id: None,
        client_secret_file: None,
        audience: audience.map(str::to_owned),
        scopes: Vec::new(),
        groups_claim: "groups".to_owned(),
        device_flow: false,
        ca: Some(std::path::PathBuf::from("/nonexistent")),
        private_addresses: false,
        refresh: Duration::from_secs(3600),
    };
    let (a, b) = ("https://a.example", "https://b.example");
    for twins in
        [[config("x", a, None), config("x", b, None)], [config("x", a, Some("u")), config("y", a, Some("u"))]]
    {
        assert!(Providers::load(&twins).unwrap_err().to_string().contains("two providers"));
    }
    for issuer in ["http://a.example", "a.example", "https://a.example?x", "https://u@a.example", ""] {
        assert!(
            format!("{:#}", Providers::load(&[config("x", issuer, None)]).unwrap_err()).contains("https"),
            "{issuer}"
        );
    }
}
