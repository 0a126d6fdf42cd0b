//! People join through their company's provider: the certified one, a real browser, and the real programs.

use std::net::IpAddr;
use std::time::Duration;

use bulkhead_tests::{Coordinator, Idp, Lab, Node, Person, Process, WebCa, until, until_some};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
/// What waits for the refresh of groups, every ten seconds, or for a browser.
const SOON: Duration = Duration::from_secs(60);

/// A coordinator whose people are those of a provider.
struct Company {
    lab: Lab,
    coordinator: Coordinator,
    idp: Idp,
    ca: WebCa,
}

impl Company {
    fn start() -> Self {
        let lab = Lab::new().unwrap();
        let host = lab.host("hub").unwrap();
        let ca = WebCa::create(&lab.folder().join("ca")).unwrap();
        let (hub, files) = (host.v4, ca.issue("pages", IpAddr::V4(host.v4)).unwrap());
        let idp = Idp::start(&lab, "idp", &ca, &[&format!("https://{hub}:8444/callback/acme")]).unwrap();
        let (secret, config) = (lab.folder().join("client.secret"), lab.folder().join("coordinator.toml"));
        std::fs::write(&secret, Idp::CLIENT_SECRET).unwrap();
        let text = format!(
            r#"
[web]
listen = "0.0.0.0:8444"
url = "https://{hub}:8444"
certificate = "{certificate}"
key = "{key}"
[[provider]]
name = "acme"
issuer = "{issuer}"
client_id = "{client}"
client_secret_file = "{secret}"
scopes = ["groups", "offline_access"]
ca = "{ca}"
private_addresses = true
refresh = "10s"
[[enrol]]
provider = "acme"
groups = ["staff"]
labels = {{ site = "hq" }}
[[enrol]]
provider = "acme"
groups = ["engineering"]
labels = {{ team = "eng" }}
"#,
            certificate = files.certificate.display(),
            key = files.key.display(),
            issuer = idp.issuer,
            client = Idp::CLIENT,
            secret = secret.display(),
            ca = ca.certificate().display(),
        );
        std::fs::write(&config, text).unwrap();
        let coordinator =
            Coordinator::start_on(&lab, host, &["--config", &config.to_string_lossy()]).unwrap();
        Self { lab, coordinator, idp, ca }
    }

    fn labels(&self, node: &str) -> Value {
        self.coordinator.ctl_json(&["node", "show", node]).unwrap()["labels"].clone()
    }
}

/// `bulkhead up --sso` on a new machine, and the code that it shows.
fn asks(company: &Company, name: &str) -> (Node, Process, Value) {
    let invitation = company.lab.folder().join(format!("{name}.invitation"));
    let invitation = invitation.to_string_lossy();
    company.coordinator.ctl(&["token", "invite", "--out", &invitation]).unwrap().success().unwrap();
    let node = Node::prepare(&company.lab, name).unwrap();
    let up = ["--json", "up", "--sso", "--enrol-only", "--name", name, "--invitation", &invitation];
    let process = Process::start(&mut node.command(&up), &node.folder().join("log")).unwrap();
    let code = until_some("the machine shows a code", SOON, || {
        let events = process.log();
        let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.find(|event| event["event"] == "code")
    });
    (node, process, code)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_person_joins_by_the_browser_and_a_group_that_is_gone_takes_its_label_along() {
    let mut company = Company::start();
    company.idp.put_user("ada", &["staff", "engineering"]).unwrap();
    let (_laptop, mut up, code) = asks(&company, "laptop");
    let desk = company.lab.host("desk").unwrap();
    let mut ada = Person::new(&company.lab, &desk, "ada", &company.ca, &["--no-script"]).unwrap();
    ada.open(text(&code["verification_uri_complete"])).unwrap();
    ada.press("Sign in with acme").unwrap();
    ada.reach(&company.idp.issuer).unwrap();
    ada.sign_in("ada").unwrap();
    ada.press("Allow").unwrap();
    let asked = ada.expect("If you confirm").unwrap();
    for shown in ["laptop", text(&code["match_code"]), "site=hq", "team=eng"] {
        assert!(asked.text.contains(shown), "{shown}: {}", asked.text);
    }
    ada.press("Confirm").unwrap();
    ada.expect("is a node now").unwrap();
    until("the machine has joined", SOON, || !up.running());
    assert!(up.log().contains("\"done\""), "{}", up.log());
    assert_eq!(company.labels("laptop"), serde_json::json!({ "site": "hq", "team": "eng" }));

    company.idp.put_user("ada", &["staff"]).unwrap();
    until("the label is gone", SOON + SECOND, || {
        company.labels("laptop") == serde_json::json!({ "site": "hq" })
    });
}

#[test]
fn who_is_in_no_group_that_a_rule_names_enrols_nothing() {
    let mut company = Company::start();
    company.idp.put_user("eve", &["visitors"]).unwrap();
    let (_laptop, _up, code) = asks(&company, "laptop");
    let desk = company.lab.host("desk").unwrap();
    let mut eve = Person::new(&company.lab, &desk, "eve", &company.ca, &["--phone"]).unwrap();
    eve.open(text(&code["verification_uri_complete"])).unwrap();
    eve.press("Sign in with acme").unwrap();
    eve.reach(&company.idp.issuer).unwrap();
    eve.sign_in("eve").unwrap();
    eve.press("Allow").unwrap();
    eve.expect("no rule matches").unwrap();
    assert!(company.coordinator.ctl(&["node", "show", "laptop"]).unwrap().success().is_err());
}
