//! D6, D7 and D16 of the attacks, and C4 as far as pages go.

use super::acted::{Browser, CODE, STATE, Script, login, pages, refusal, script};
use crate::web::limits::{MAX_CALLBACK_BYTES, MAX_FORM_BYTES};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use bulkhead_coordinator_engine::{AdminRole, Class, SignInOutcome, SignInView};

#[tokio::test]
async fn d6_an_answer_without_its_state_or_from_another_browser_is_refused() {
    let (router, _) = pages(script());
    let mut victim = Browser::new(&router);
    victim.leave().await;
    for query in ["code=canary-code", "code=canary-code&state=", "code=canary-code&state=fixed"] {
        let seen = victim.get(&format!("/callback/acme?{query}")).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "{query}");
    }
    let twice = format!("/callback/acme?code=canary-code&state={STATE}&state={STATE}");
    assert_eq!(victim.get(&twice).await.status, StatusCode::BAD_REQUEST);
    let mut attacker = Browser::new(&router);
    assert_eq!(attacker.arrive().await.status, StatusCode::GONE, "no cookie");
    attacker.get(&format!("/device?code={CODE}")).await;
    assert_eq!(attacker.arrive().await.status, StatusCode::FORBIDDEN, "another browser's answer");
    assert_eq!(victim.arrive().await.status, StatusCode::SEE_OTHER, "none of it ended the victim's own");
}

#[tokio::test]
async fn d6_an_answer_that_is_replayed_is_refused() {
    let (router, _) = pages(script());
    let mut browser = Browser::new(&router);
    browser.leave().await;
    let before = browser.cookie.clone();
    assert_eq!(browser.arrive().await.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.arrive().await.status, StatusCode::FORBIDDEN, "replayed");
    let after = std::mem::replace(&mut browser.cookie, before.clone());
    assert_ne!(before, after, "a cookie that somebody fixed before the sign-in is worth nothing after it");
    assert_eq!(browser.get("/confirm").await.status, StatusCode::GONE);
    browser.cookie = after;
    assert_eq!(browser.get("/confirm").await.status, StatusCode::OK);
}

#[tokio::test]
async fn d6_a_word_counts_once() {
    let (router, deeds) = pages(script());
    let mut browser = Browser::new(&router);
    let form = format!("form={}&answer=confirm", browser.sign_in().await.form());
    assert_eq!(browser.post("/confirm", &form).await.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.post("/confirm", &form).await.status, StatusCode::GONE);
    assert_eq!(deeds.all().iter().filter(|deed| deed.starts_with("confirmed")).count(), 1);
}

#[tokio::test]
async fn d7_the_page_shows_device_key_address_and_match_code() {
    let (router, _) = pages(script());
    let page = Browser::new(&router).sign_in().await.html;
    let fingerprint = script().asked.fingerprint.unwrap().to_string();
    for shown in ["ada-laptop", &fingerprint, "192.0.2.7", "42 17", "Ada", "acme", "team=eng"] {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(!page.contains("secret-group"), "groups are nobody's business here");
    let before = Browser::new(&router).get(&format!("/device?code={CODE}")).await.html;
    assert!(!before.contains("ada-laptop"), "who only knows a code does not hear whose it is");
}

#[tokio::test]
async fn d7_whoever_guessed_too_often_has_to_wait() {
    let (router, _) = pages(script());
    let seen = Browser::new(&router).get("/device?code=TOO-MANY").await;
    assert_eq!(seen.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(seen.header(header::RETRY_AFTER), "60");
}

#[tokio::test]
async fn d16_every_answer_is_protected_and_nothing_in_it_runs() {
    let (router, _) = pages(script());
    let mut browser = Browser::new(&router);
    browser.sign_in().await;
    for path in
        ["/", "/device", "/confirm", "/done", "/refused", "/callback/acme", "/signin/acme", "/healthz", "/x"]
    {
        let seen = browser.get(path).await;
        let policy = seen.header(header::CONTENT_SECURITY_POLICY);
        let parts: Vec<&str> = policy.split("; ").collect();
        assert_eq!(parts.len(), 5, "{policy}");
        assert!(parts.contains(&"default-src 'none'") && parts.contains(&"form-action 'self'"), "{policy}");
        assert!(parts.contains(&"frame-ancestors 'none'") && parts.contains(&"base-uri 'none'"), "{policy}");
        assert!(policy.contains("style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(seen.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(seen.header(header::X_FRAME_OPTIONS), "DENY");
        assert_eq!(seen.header(header::REFERRER_POLICY), "no-referrer");
        assert_eq!(seen.header(header::CACHE_CONTROL), "no-store");
        let html = seen.html.to_lowercase();
        for bad in ["<script", "style=", " on", "javascript:", "http://", "<img", "<link", "<iframe"] {
            // ` on` stands in prose; an attribute would be followed by its value.
            let found = html.match_indices(bad).any(|(at, _)| {
                bad != " on" || html[at + 1..].split([' ', '>']).next().is_some_and(|word| word.contains('='))
            });
            assert!(!found, "{path}: {bad}");
        }
    }
}

#[test]
fn d16_the_policy_names_the_hash_of_the_style_sheet_as_it_is_sent() {
    use crate::web::pages;
    let page = pages::ask_code(None).into_string();
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert_eq!(style, pages::STYLE);
    assert!(!style.contains("</") && !style.contains("url("));
}

#[tokio::test]
async fn d16_only_forms_that_this_browser_was_given_change_anything() {
    let (router, deeds) = pages(script());
    let mut browser = Browser::new(&router);
    let mut other = Browser::new(&router);
    let mine = browser.sign_in().await.form();
    let foreign = other.sign_in().await.form();
    let choice = Browser::new(&router).get(&format!("/device?code={CODE}")).await.form();
    let before = deeds.all().len();
    for form in [
        format!("form={foreign}&answer=confirm"),
        format!("form={choice}&answer=confirm"),
        "form=&answer=confirm".to_owned(),
    ] {
        assert_eq!(browser.post("/confirm", &form).await.status, StatusCode::FORBIDDEN, "{form}");
    }
    for form in ["answer=confirm", &format!("form={mine}"), &format!("form={mine}&answer=yes"), "", "%ff=%ff"]
    {
        assert_eq!(browser.post("/confirm", form).await.status, StatusCode::BAD_REQUEST, "{form}");
    }
    for site in ["cross-site", "same-site", "none"] {
        let request = Request::post("/confirm")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", site)
            .body(Body::from(format!("form={mine}&answer=confirm")))
            .unwrap();
        assert_eq!(browser.send(request).await.status, StatusCode::FORBIDDEN, "{site}");
    }
    browser.get(&format!("/confirm?form={mine}&answer=confirm")).await;
    assert_eq!(deeds.all().len(), before, "nothing was done");
    let seen = browser.post("/confirm", &format!("form={mine}&answer=confirm")).await;
    assert_eq!(seen.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn d16_methods_other_than_a_pages_own_are_refused() {
    let (router, deeds) = pages(script());
    let mut browser = Browser::new(&router);
    browser.sign_in().await;
    let before = deeds.all().len();
    for (method, path) in [
        (Method::GET, "/signin/acme"),
        (Method::PUT, "/confirm"),
        (Method::DELETE, "/confirm"),
        (Method::POST, "/callback/acme"),
        (Method::POST, "/device"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        assert_eq!(browser.send(request).await.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(deeds.all().len(), before);
}

#[tokio::test]
async fn a_provider_without_tls_or_without_a_name_is_nowhere_to_go() {
    let (router, _) = pages(Script { url: "http://login.acme.example/".to_owned(), ..script() });
    let seen = Browser::new(&router).leave().await;
    assert_eq!((seen.status, seen.header(header::REFRESH)), (StatusCode::FORBIDDEN, ""));
    let (router, _) = pages(Script { url: "https://login.acme.example/\r\nx: y".to_owned(), ..script() });
    assert_eq!(Browser::new(&router).leave().await.status, StatusCode::FORBIDDEN);
    let (router, _) = pages(script());
    let mut browser = Browser::new(&router);
    let form = browser.get(&format!("/device?code={CODE}")).await.form();
    for name in ["nobody", "..%2f..", "%00", "acme%20"] {
        let seen = browser.post(&format!("/signin/{name}"), &format!("form={form}")).await;
        assert_eq!(seen.status, StatusCode::NOT_FOUND, "{name}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let (router, _) = pages(script());
    let mut browser = Browser::new(&router);
    browser.leave().await;
    let long = "x".repeat(MAX_CALLBACK_BYTES);
    let seen = browser.get(&format!("/callback/acme?state={STATE}&code={long}")).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    let seen = browser.post("/confirm", &format!("form={}", "x".repeat(MAX_FORM_BYTES))).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn c4_hostile_strings_stay_text() {
    let hostile =
        "\"><script>alert(1)</script><b title='x' onload=x>&lt;\u{202e}gnp\u{0}\r\n\u{1b}[2J../../../etc";
    let long = hostile.to_owned() + &"A".repeat(64 * 1024);
    for name in [hostile, &long] {
        let asked = SignInView { match_code: name.to_owned(), ..login().asked };
        let outcome = SignInOutcome::LoggedIn { user: name.to_owned(), role: AdminRole::Viewer };
        let (router, _) = pages(Script { asked, outcome, finish: Ok(name.to_owned()), ..login() });
        let mut browser = Browser::new(&router);
        let question = browser.sign_in().await;
        browser.post("/confirm", &format!("form={}&answer=confirm", question.form())).await;
        let last = browser.get("/done").await;
        browser.leave().await;
        let said = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE%00%1B";
        let error = format!("/callback/acme?state={STATE}&error={said}&error_description={said}");
        let error = browser.get(&error).await;
        let (router, _) = pages(Script { preview: Err(refusal(Class::Forbidden, name)), ..script() });
        let denied = Browser::new(&router).sign_in().await;
        for page in [question, last, error, denied] {
            let text = page.html.split("</style>").nth(1).unwrap();
            for bad in ["<script", "<b ", "\u{202e}", "\u{0}", "\u{1b}", "\r"] {
                assert!(!text.contains(bad), "{bad:?} in {text}");
            }
            assert!(page.html.contains("&lt;script&gt;"), "{text}");
            assert!(page.html.len() < 16 * 1024, "a page stays small");
        }
    }
}

#[tokio::test]
async fn a_second_sign_in_of_a_browser_ends_its_first() {
    let (router, _) = pages(script());
    let mut browser = Browser::new(&router);
    let first = browser.sign_in().await.form();
    browser.get(&format!("/device?code={CODE}")).await;
    let seen = browser.post("/confirm", &format!("form={first}&answer=confirm")).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
}
