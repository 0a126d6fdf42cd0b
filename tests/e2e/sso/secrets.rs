//! S3, S4, E5: what people, administrators and workloads sign in with is in no log at TRACE, and nothing that would open
//! anything is in the coordinator's store.

use bulkhead_tests::{Idp, process, stored, until};
use serde_json::Value;

use super::{A_WHILE, AUDIENCE, Company, asks, ctl, ends_well, logs_in, sign_in, text};

#[test]
fn s3_s4_no_secret_of_a_sign_in_is_in_a_log_or_in_the_store() {
    let mut company = Company::start_with(&["--log", "trace"]);
    company.idp.put_user("ops", &["staff", "netops"]).unwrap();
    let mut secrets = vec![("the client's", Idp::CLIENT_SECRET.to_owned())];

    // A person's machine.
    let mut joining = asks(&company, "laptop", &["--log", "trace"]);
    let kept = std::fs::read_to_string(joining.node.state().join("signin.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    secrets.push(("the device code", text(&kept["authorization"]["device_code"]).to_owned()));
    let mut ops = company.person("ops", &[]);
    sign_in(&company, &mut ops, "ops", &joining.code);
    ops.press("Confirm").unwrap();
    ends_well(&mut joining.up);

    // An administrator's session.
    let office = company.lab.host("office").unwrap();
    let (mut login, code) = logs_in(&company, &office);
    ops.open(text(&code["verification_uri_complete"])).unwrap();
    ops.press("Sign in with acme").unwrap();
    ops.press("Allow").unwrap();
    ops.press("Confirm").unwrap();
    until("logged in", A_WHILE, || !login.running());
    process::run(&mut ctl(&company.lab, &office, &["whoami"]), A_WHILE).unwrap().success().unwrap();
    let session = company.lab.folder().join(format!("{}.session", office.v4));
    let session: Value = serde_json::from_slice(&std::fs::read(session).unwrap()).unwrap();
    secrets.push(("the administrator's key", text(&session["key"]).to_owned()));

    // A workload.
    let claims = serde_json::json!({ "repository": "acme/app" });
    let token = company.idp.workload_token("runner", AUDIENCE, &claims).unwrap();
    secrets.push(("the workload's signature", token.rsplit('.').next().unwrap().to_owned()));
    super::workloads::join(&company, "runner", &token).1.success().unwrap();

    let mut found = vec![
        ("the coordinator's log".to_owned(), company.coordinator.log().into_bytes()),
        ("the machine's log".to_owned(), joining.up.log().into_bytes()),
        ("the login's output".to_owned(), login.log().into_bytes()),
    ];
    let coordinators = company.coordinator.log();
    assert!(
        coordinators.contains("TRACE") || coordinators.contains("DEBUG"),
        "the log is verbose enough to prove something"
    );
    let kept = stored(&company.coordinator.state());
    found.extend(kept.into_iter().filter_map(|one| Some((one.path.display().to_string(), one.bytes?))));
    assert!(found.len() > 10, "{}", found.len());
    let decoded = |secret: &str| data_encoding::BASE64URL_NOPAD.decode(secret.as_bytes()).unwrap_or_default();
    for (what, secret) in &secrets {
        assert!(secret.len() >= 32, "{what} is long enough not to be there by chance");
        let raw = decoded(secret);
        for (place, content) in &found {
            let holds = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
            assert!(!holds(secret.as_bytes()), "{what} is in {place}");
            assert!(raw.len() < 16 || !holds(&raw), "{what} is in {place}, as bytes");
        }
    }
}
