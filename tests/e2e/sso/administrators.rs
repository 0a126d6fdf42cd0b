//! Administrators by their groups: `bulkheadctl login --sso`, and what becomes of it when the group is gone.

use bulkhead_tests::{process, until};
use serde_json::Value;

use super::{A_WHILE, Company, ctl, logs_in, sign_in, text};

#[test]
fn an_administrator_has_the_role_of_the_group_for_as_long_as_the_group() {
    let mut company = Company::start();
    company.idp.put_user("ops", &["netops"]).unwrap();
    let office = company.lab.host("office").unwrap();
    let (mut login, code) = logs_in(&company, &office);
    let mut ops = company.person("ops", &[]);
    sign_in(&company, &mut ops, "ops", &code);
    let asked = ops.expect("If you confirm").unwrap();
    assert!(
        asked.text.contains("operator") && asked.text.contains(text(&code["match_code"])),
        "{}",
        asked.text
    );
    ops.press("Confirm").unwrap();
    until("logged in", A_WHILE, || !login.running());

    let run = |args: &[&str]| process::run(&mut ctl(&company.lab, &office, args), A_WHILE).unwrap();
    let who = run(&["--json", "whoami"]).json().unwrap();
    assert_eq!(who["role"], "operator", "{who}");
    run(&["node", "list"]).success().unwrap();
    let refused = run(&["apikey", "create", "more", "--role", "admin"]);
    assert!(!refused.ok() && refused.stderr.contains("admin"), "{refused:?}");
    let written: Vec<Value> = company.journal("refused");
    assert!(written.iter().any(|entry| entry.to_string().contains("ops")), "{written:?}");

    // Another group, another role; no group, no session.
    company.idp.put_user("ops", &["auditors"]).unwrap();
    until("only looks on", A_WHILE, || {
        run(&["--json", "whoami"]).json().is_ok_and(|who| who["role"] == "viewer")
    });
    assert!(!run(&["token", "create"]).ok());
    company.idp.put_user("ops", &[]).unwrap();
    until("is nobody", A_WHILE, || !run(&["whoami"]).ok());
}

#[test]
fn who_is_no_administrator_is_told_on_the_page() {
    let mut company = Company::start();
    company.idp.put_user("ada", &["engineering"]).unwrap();
    let office = company.lab.host("office").unwrap();
    let (_login, code) = logs_in(&company, &office);
    let mut ada = company.person("ada", &["--phone", "--no-script"]);
    sign_in(&company, &mut ada, "ada", &code);
    ada.expect("is no administrator").unwrap();
    assert!(company.journal("administrator_signed_in").is_empty());
}
