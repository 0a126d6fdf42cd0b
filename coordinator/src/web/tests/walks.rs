//! What people see on their way.

use super::acted::{Browser, CODE, Script, laptop, login, pages, refusal, script};
use crate::web::seam::SsoFault;
use axum::http::{StatusCode, header};
use bulkhead_coordinator_engine::{Class, SignInOutcome};

fn check(name: &str, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

/// Signs in, gives the word, and looks at the last page.
async fn walk(script: Script, word: &str) -> (String, String, Vec<String>) {
    let (router, deeds) = pages(script);
    let mut browser = Browser::new(&router);
    let question = browser.sign_in().await;
    let told = browser.post("/confirm", &format!("form={}&answer={word}", question.form())).await;
    assert_eq!(told.status, StatusCode::SEE_OTHER, "{}", told.html);
    let last = browser.get(told.header(header::LOCATION)).await;
    let token = question.form();
    (question.text().replace(&token, "TOKEN"), last.text(), deeds.all())
}

#[tokio::test]
async fn a_person_adds_a_device() {
    let (question, last, deeds) = walk(script(), "confirm").await;
    check("confirm-device", &question);
    check("done-device", &last);
    let expected = [
        "to acme, back to https://bulkhead.acme.example:8444/callback/acme",
        "confirmed by u-1 from 198.51.100.9",
        "kept u-1",
    ];
    assert_eq!(deeds, expected);
}

#[tokio::test]
async fn the_word_of_a_person_whose_browser_hangs_up_counts_whole() {
    let (router, deeds) = pages(script());
    let mut browser = Browser::new(&router);
    browser.address = "::ffff:198.51.100.9".parse().unwrap();
    let form = format!("form={}&answer=confirm", browser.sign_in().await.form());
    tokio::select! {
        biased;
        () = deeds.done("confirmed by u-1 from 198.51.100.9") => {}
        _ = browser.post("/confirm", &form) => panic!("answered before it was done"),
    }
    deeds.done("kept u-1").await;
    assert_eq!(browser.get("/done").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_person_logs_in() {
    let (question, last, _) = walk(login(), "confirm").await;
    check("confirm-login", &question);
    check("done-login", &last);
}

#[tokio::test]
async fn a_person_says_no() {
    let (_, last, deeds) = walk(script(), "refuse").await;
    check("refused", &last);
    assert_eq!(deeds[1..], ["refused WDJB-MJHT"], "and nothing of the person is kept");
}

#[tokio::test]
async fn a_device_waits_for_an_administrator() {
    let outcome = SignInOutcome::Pending { name: laptop() };
    let (_, last, _) = walk(Script { outcome, ..script() }, "confirm").await;
    check("done-pending", &last);
}

#[tokio::test]
async fn the_code_is_asked_for_and_the_provider_chosen() {
    let (router, _) = pages(script());
    let mut browser = Browser::new(&router);
    check("device", &browser.get("/device").await.text());
    let choice = browser.get(&format!("/device?code={}", CODE.to_lowercase())).await;
    check("providers", &choice.text().replace(&choice.form(), "TOKEN"));
    check("unknown-code", &browser.get("/device?code=BBBB-BBBB").await.text());
    let away = browser.leave().await;
    check("leaving", &away.text());
    assert_eq!(
        away.header(header::REFRESH),
        "0;url=https://login.acme.example/authorize?client_id=b&state=canary-state"
    );
}

#[tokio::test]
async fn what_goes_wrong_is_explained() {
    let denied = refusal(Class::Forbidden, "no rule lets you add devices");
    let (router, _) = pages(Script { preview: Err(denied), ..script() });
    let mut browser = Browser::new(&router);
    let seen = browser.sign_in().await;
    check("denied", &seen.text());

    let (router, _) = pages(script());
    let mut browser = Browser::new(&router);
    check("over", &browser.get("/confirm").await.text());
    check("nothing-here", &browser.get("/admin").await.text());
    browser.leave().await;
    let said = "/callback/acme?state=canary-state&error=access_denied&error_description=Ada+is+not+assigned";
    check("provider-said-no", &browser.get(said).await.text());

    let (router, _) =
        pages(Script { finish: Err(SsoFault::Unreachable("10.0.0.1 timed out".into())), ..script() });
    let mut browser = Browser::new(&router);
    browser.leave().await;
    let seen = browser.arrive().await;
    assert!(!seen.html.contains("10.0.0.1"), "what is inside is no stranger's business");
    check("provider-away", &seen.text());

    let invalid = SsoFault::Invalid("the nonce is another".to_owned());
    let (router, _) = pages(Script { finish: Err(invalid), ..script() });
    let mut browser = Browser::new(&router);
    browser.leave().await;
    let seen = browser.arrive().await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN);
    assert!(!seen.html.contains("nonce"), "whoever made it up is not told what was wrong");
}

#[tokio::test]
async fn a_sign_in_can_be_tried_again_after_the_provider_failed() {
    let (router, _) = pages(script());
    let mut browser = Browser::new(&router);
    browser.leave().await;
    browser
        .get("/callback/acme?state=canary-state&error=temporarily_unavailable&error_description=later")
        .await;
    assert_eq!(browser.sign_in().await.status, StatusCode::OK);
}
