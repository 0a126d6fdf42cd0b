//! D3: ID tokens and tokens of workloads that must not be believed.

use super::keys::{Key, unsigned};
use super::provider::{AUDIENCE, CLIENT, Provider, now};
use super::sign_in;
use crate::sso::SsoError;
use crate::sso::claims::ClaimsError;
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde_json::{Value, json};

/// What a sign-in says when the provider mints tokens like this. The same provider signs people in before.
async fn refusal(mint: impl Fn(&Key, Value) -> String + Send + 'static) -> SsoError {
    let provider = Provider::start().await;
    let providers = provider.providers();
    sign_in(&provider, &providers).await.unwrap();
    provider.behaviour().mint = Box::new(mint);
    sign_in(&provider, &providers).await.unwrap_err()
}

/// Refused, whose claims are changed like this and then signed with the provider's own key.
async fn refused_claims(change: impl Fn(&mut Value) + Send + 'static) -> SsoError {
    refusal(move |key, mut claims| {
        change(&mut claims);
        key.token("first", &claims)
    })
    .await
}

#[tokio::test]
async fn d3_an_honest_token_is_believed_with_either_kind_of_key() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let ada = sign_in(&provider, &providers).await.unwrap();
    assert_eq!(
        (ada.claims.provider.as_str(), ada.claims.issuer.as_str()),
        ("acme", provider.issuer.as_str())
    );
    assert_eq!((ada.claims.subject.as_str(), ada.claims.name.as_str()), ("u-123", "Ada"));
    assert_eq!(ada.claims.groups.iter().collect::<Vec<_>>(), ["engineering"]);
    assert!(ada.refresh.is_some());
    let rsa = Key::rsa();
    provider.behaviour().keys = vec![rsa.jwk("rsa")];
    provider.behaviour().mint = Box::new(move |_, claims| rsa.token("rsa", &claims));
    sign_in(&provider, &provider.providers()).await.unwrap();
}

#[tokio::test]
async fn d3_a_token_that_nobody_signed_is_refused() {
    for algorithm in ["none", "None", "NONE", "nOnE"] {
        let refused =
            refusal(move |_, claims| format!("{}.", unsigned(&json!({ "alg": algorithm }), &claims))).await;
        assert!(matches!(refused, SsoError::Token(_) | SsoError::Misconfigured { .. }), "{refused}");
    }
    let refused =
        refusal(|key, claims| key.token("first", &claims).rsplit_once('.').unwrap().0.to_owned() + ".").await;
    assert!(matches!(refused, SsoError::Token(_)), "{refused}");
}

#[tokio::test]
async fn d3_the_public_key_is_not_a_shared_secret() {
    // Both the key and what a library would find in the key set, as HMAC keys.
    let rsa = Key::rsa();
    let jwk = rsa.jwk("rsa");
    let candidates = [rsa.rsa_public().0, jwk.to_string().into_bytes(), jwk["n"].as_str().unwrap().into()];
    for secret in candidates.into_iter().chain([super::provider::SECRET.into(), Vec::new()]) {
        let provider = Provider::start().await;
        provider.behaviour().keys = vec![jwk.clone()];
        provider.behaviour().mint = Box::new(move |_, claims| {
            let text = unsigned(&json!({ "alg": "HS256", "kid": "rsa" }), &claims);
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), text.as_bytes());
            format!("{text}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
        });
        let refused = sign_in(&provider, &provider.providers()).await.unwrap_err();
        assert!(refused.to_string().contains("algorithm"), "{refused}");
    }
}

#[tokio::test]
async fn d3_an_algorithm_that_the_provider_does_not_list_is_refused() {
    let provider = Provider::start().await;
    provider.behaviour().description["id_token_signing_alg_values_supported"] = json!(["RS256"]);
    let refused = sign_in(&provider, &provider.providers()).await.unwrap_err();
    assert!(refused.to_string().contains("algorithm"), "{refused}");
}

#[tokio::test]
async fn d3_a_wrong_or_extra_audience_is_refused() {
    for audience in
        [json!("other"), json!([]), json!(null), json!(["other"]), json!([CLIENT, "other"]), json!("")]
    {
        let said = audience.clone();
        let refused = refused_claims(move |claims| claims["aud"] = said.clone()).await;
        assert!(
            matches!(refused, SsoError::Token(_) | SsoError::Misconfigured { .. }),
            "{audience}: {refused}"
        );
    }
    let refused = refused_claims(|claims| claims["azp"] = "other".into()).await;
    assert!(matches!(refused, SsoError::Token(_)), "{refused}");
    let provider = Provider::start().await;
    provider.behaviour().person["aud"] = json!([CLIENT, "other"]);
    provider.behaviour().person["azp"] = CLIENT.into();
    sign_in(&provider, &provider.providers()).await.unwrap();
}

#[tokio::test]
async fn d3_another_issuer_is_refused_to_the_letter() {
    let refused = refused_claims(|claims| claims["iss"] = "https://evil.example".into()).await;
    assert!(refused.to_string().contains("issuer"), "{refused}");
    let slash = |claims: &mut Value| claims["iss"] = format!("{}/", claims["iss"].as_str().unwrap()).into();
    assert!(refused_claims(slash).await.to_string().contains("issuer"));
}

#[tokio::test]
async fn d3_a_missing_or_replayed_nonce_is_refused() {
    let refused = refused_claims(|claims| drop(claims.as_object_mut().unwrap().remove("nonce"))).await;
    assert!(refused.to_string().contains("nonce"), "{refused}");
    let provider = Provider::start().await;
    let providers = provider.providers();
    let (url, _) = providers.authorize("acme", super::REDIRECT).await.unwrap();
    let earlier = super::provider::fields(url.split_once('?').unwrap().1)["nonce"].clone();
    provider.behaviour().person["nonce"] = earlier.clone().into();
    provider.behaviour().mint = Box::new(move |key, mut claims| {
        claims["nonce"] = earlier.clone().into();
        key.token("first", &claims)
    });
    let refused = sign_in(&provider, &providers).await.unwrap_err();
    assert!(refused.to_string().contains("another sign-in"), "{refused}");
}

#[tokio::test]
async fn d3_time_is_kept_within_a_minute() {
    let far = |claims: &mut Value, name: &str, offset: i64| claims[name] = (now() + offset).into();
    let refusals = [
        refused_claims(move |claims| far(claims, "exp", -70)).await,
        refused_claims(move |claims| far(claims, "iat", 70)).await,
        refused_claims(move |claims| far(claims, "nbf", 70)).await,
        refused_claims(|claims| claims["exp"] = json!(1e300)).await,
        refused_claims(|claims| claims["nbf"] = "soon".into()).await,
        refused_claims(|claims| drop(claims.as_object_mut().unwrap().remove("exp"))).await,
        refused_claims(|claims| drop(claims.as_object_mut().unwrap().remove("iat"))).await,
    ];
    for refused in refusals {
        assert!(matches!(refused, SsoError::Token(_) | SsoError::Misconfigured { .. }), "{refused}");
    }
    let provider = Provider::start().await;
    provider.behaviour().mint = Box::new(move |key, mut claims| {
        far(&mut claims, "exp", -50);
        far(&mut claims, "iat", 50);
        far(&mut claims, "nbf", 50);
        key.token("first", &claims)
    });
    sign_in(&provider, &provider.providers()).await.unwrap();
}

#[tokio::test]
async fn d3_an_empty_subject_is_refused() {
    let refused = refused_claims(|claims| claims["sub"] = "".into()).await;
    assert!(matches!(refused, SsoError::Claims { source: ClaimsError::Subject, .. }), "{refused}");
}

#[tokio::test]
async fn d3_two_keys_of_one_id_verify_nothing() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    let (ours, twin) = (Key::ec(), Key::ec());
    provider.behaviour().keys = vec![twin.jwk("same"), ours.jwk("same")];
    provider.behaviour().mint = Box::new(move |_, claims| ours.token("same", &claims));
    let refused = sign_in(&provider, &providers).await.unwrap_err();
    assert!(refused.to_string().contains("Ambiguous"), "{refused}");
}

#[tokio::test]
async fn d3_keys_and_addresses_inside_a_token_are_not_looked_at() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    for embedded in ["jwk", "jku", "x5u"] {
        let issuer = provider.issuer.clone();
        provider.behaviour().mint = Box::new(move |_, claims| {
            let attacker = Key::ec();
            let mut header = json!({ "alg": "ES256", "kid": "first" });
            header[embedded] = match embedded {
                "jwk" => attacker.jwk("first"),
                _ => format!("{issuer}/attacker").into(),
            };
            attacker.sign(&header, &claims)
        });
        let refused = sign_in(&provider, &providers).await.unwrap_err();
        assert!(refused.to_string().contains("Signature"), "{embedded}: {refused}");
    }
    assert_eq!(provider.asked("/attacker"), 0);
}

#[tokio::test]
async fn d3_weak_keys_are_not_keys() {
    let rsa = Key::rsa();
    let mut jwk = rsa.jwk("rsa");
    // As the key set says, this key has 2040 bits.
    jwk["n"] = BASE64URL_NOPAD.encode(&rsa.rsa_public().0[1..]).into();
    let provider = Provider::start().await;
    provider.behaviour().keys = vec![jwk, json!({ "kty": "oct", "kid": "rsa", "k": "c2VjcmV0" })];
    provider.behaviour().mint = Box::new(move |_, claims| rsa.token("rsa", &claims));
    let refused = sign_in(&provider, &provider.providers()).await.unwrap_err();
    assert!(refused.to_string().contains("No matching key"), "{refused}");
}

#[tokio::test]
async fn d3_a_token_of_a_megabyte_is_refused() {
    let large = refused_claims(|claims| claims["x"] = "x".repeat(300 * 1024).into()).await;
    assert!(large.to_string().contains("too large"), "{large}");
    let larger = refused_claims(|claims| claims["x"] = "x".repeat(1024 * 1024).into()).await;
    assert!(matches!(larger, SsoError::Unreachable { .. }), "{larger}");
    let provider = Provider::start().await;
    let workload = provider.providers().workload(&"a".repeat(1024 * 1024)).await.unwrap_err();
    assert!(workload.to_string().contains("too large"), "{workload}");
}

#[tokio::test]
async fn s2_a_claim_that_is_there_twice_is_refused() {
    for second in ["\"groups\":[\"netops\"]", "\"x\":1,\"x\":2", "\"sub\":\"root\""] {
        let refused = refusal(move |key, claims| {
            let twice = format!("{},{second}}}", claims.to_string().strip_suffix('}').unwrap());
            key.sign_text(r#"{"alg":"ES256","kid":"first"}"#, &twice)
        })
        .await;
        assert!(
            matches!(refused, SsoError::Token(_) | SsoError::Misconfigured { .. }),
            "{second}: {refused}"
        );
    }
}

#[tokio::test]
async fn d9_groups_that_cannot_be_believed_are_refused_with_a_reason() {
    let many: Vec<String> = (0..10_000).map(|n| format!("g{n}")).collect();
    let said = [json!(many), json!([["nested"]]), json!([1]), json!({ "a": "b" }), json!(true)];
    for groups in said {
        let refused = refused_claims(move |claims| claims["groups"] = groups.clone()).await;
        assert!(matches!(refused, SsoError::Claims { .. }), "{refused}");
        assert!(crate::sso::chain(&refused).contains("have the provider send"), "{refused}");
    }
    let refused = refused_claims(|claims| claims["_claim_names"] = json!({ "groups": "src1" })).await;
    assert!(matches!(refused, SsoError::Claims { source: ClaimsError::Overage(_), .. }), "{refused}");
}

#[tokio::test]
async fn workloads_are_believed_by_audience_and_by_nothing_less() {
    let provider = Provider::start().await;
    let providers = provider.providers();
    provider.behaviour().person = json!({
        "sub": "system:serviceaccount:shop:web", "kubernetes.io": { "namespace": "shop" },
    });
    let token = provider.behaviour().workload();
    let claims = providers.workload(&token).await.unwrap();
    assert_eq!(claims.subject, "system:serviceaccount:shop:web");
    assert_eq!(claims.other["kubernetes.io.namespace"], ["shop"]);

    let refusals = [
        ("aud", json!("kubernetes")),
        ("aud", json!([AUDIENCE, "another service, which could show it to us"])),
        ("aud", json!(CLIENT)),
        ("iss", json!("https://evil.example")),
        ("iss", json!(null)),
        ("exp", json!(now() - 70)),
        ("iat", json!(now() + 70)),
        ("sub", json!("")),
        // A person's ID token is not a workload's.
        ("nonce", json!("n")),
    ];
    for (name, value) in refusals {
        let said = value.clone();
        provider.behaviour().mint = Box::new(move |key, mut claims| {
            claims[name] = said.clone();
            key.token("first", &claims)
        });
        let token = provider.behaviour().workload();
        assert!(providers.workload(&token).await.is_err(), "{name} {value}");
    }
    for nothing in [
        "",
        ".",
        "..",
        "a.b.c",
        "e30.e30.",
        "e30.e30.e30",
        &token[..token.len() - 4],
        &token.replace('.', ""),
    ] {
        assert!(providers.workload(nothing).await.is_err(), "{nothing}");
    }
}

#[tokio::test]
async fn an_issuer_without_pages_serves_workloads_but_no_people() {
    let provider = Provider::start().await;
    let description = provider.behaviour().description.as_object().unwrap().clone();
    let kept = ["issuer", "jwks_uri", "id_token_signing_alg_values_supported"];
    provider.behaviour().description =
        description.into_iter().filter(|(name, _)| kept.contains(&name.as_str())).collect();
    let providers = provider.providers();
    let token = provider.behaviour().workload();
    providers.workload(&token).await.unwrap();
    let refused = sign_in(&provider, &providers).await.unwrap_err();
    assert!(matches!(refused, SsoError::Misconfigured { .. }), "{refused}");
}
