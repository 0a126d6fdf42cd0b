//! The provider's own device flow, for where browsers do not reach the coordinator's pages.

use bulkhead_tests::until;
use serde_json::json;

use super::{A_WHILE, Company, asks, ends_well, event, text};

#[test]
fn d7_who_confirms_at_the_providers_page_waits_for_an_administrator() {
    let mut company = Company::start();
    company.idp.put_user("ada", &["staff", "engineering"]).unwrap();
    let mut joining = asks(&company, "server", &["--provider-device", "acme"]);
    assert!(text(&joining.code["verification_uri"]).starts_with(&company.idp.issuer), "{}", joining.code);
    assert!(joining.code.get("match_code").is_none(), "the provider's page shows none");

    let mut ada = company.person("ada", &["--phone", "--no-script"]);
    ada.open(text(&joining.code["verification_uri"])).unwrap();
    ada.fill("Code", text(&joining.code["user_code"])).unwrap();
    ada.press("Continue").unwrap();
    ada.press("Confirm").unwrap();
    ada.sign_in("ada").unwrap();
    ada.press("Allow").unwrap();
    ada.expect("Go back to the device").unwrap();

    until("the machine waits", A_WHILE, || event(&joining.up, "approval").is_some());
    let pending = company.coordinator.ctl_json(&["node", "list", "--pending"]).unwrap();
    assert_eq!(pending["nodes"][0]["owner"]["seen"], false, "{pending}");
    company.coordinator.ctl(&["node", "approve", "server"]).unwrap().success().unwrap();
    ends_well(&mut joining.up);
    // However long the pauses between its questions: none was asked on a connection that is closed by then.
    let log = joining.up.log();
    let (_, waited) = log.split_once("\"approval\"").unwrap();
    assert!(!waited.contains("\"unreachable\""), "{log}");
    assert_eq!(company.labels("server"), json!({ "site": "hq", "team": "eng" }));
    // The refresh token of the device flow is as good as the browser's.
    company.idp.put_user("ada", &["staff"]).unwrap();
    until("the label is gone", A_WHILE, || company.labels("server") == json!({ "site": "hq" }));
}

#[test]
fn who_says_no_at_the_providers_page_ends_it_for_the_machine() {
    let mut company = Company::start();
    company.idp.put_user("ada", &["staff"]).unwrap();
    let mut joining = asks(&company, "server", &["--provider-device", "acme"]);
    let mut ada = company.person("ada", &[]);
    ada.open(text(&joining.code["verification_uri"])).unwrap();
    ada.fill("Code", text(&joining.code["user_code"])).unwrap();
    ada.press("Continue").unwrap();
    ada.press("Abort").unwrap();
    until("the machine is told", A_WHILE, || !joining.up.running());
    assert!(event(&joining.up, "done").is_none(), "{}", joining.up.log());
}
