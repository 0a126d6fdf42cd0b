//! People, administrators and workloads by the word of their provider: the certified one, a real browser, and the real
//! programs.

mod administrators;
mod devices;
mod people;
mod secrets;
mod workloads;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_tests::{Coordinator, Idp, Lab, Namespace, Node, Person, Process, WebCa, until_some};
use serde_json::Value;

/// What waits for the refresh of groups, every ten seconds, for a browser, or for a poll, at most every thirty.
const A_WHILE: Duration = Duration::from_secs(90);
/// What workloads name as their audience.
const AUDIENCE: &str = "bulkhead-workloads";

/// Who may do what; `acme` is for people, `ci` the same provider for workloads.
const RULES: &str = r#"
[[enrol]]
provider = "acme"
groups = ["staff"]
labels = { site = "hq" }
[[enrol]]
provider = "acme"
groups = ["engineering"]
labels = { team = "eng" }
[[enrol]]
provider = "acme"
groups = ["short"]
labels = { team = "eng" }
lifetime = "20s"
[[enrol]]
provider = "acme"
groups = ["contractors"]
labels = { team = "ext" }
approval = true
[[enrol]]
provider = "ci"
claims = { repository = ["acme/app"] }
labels = { role = "web" }
[[administrator]]
provider = "acme"
groups = ["auditors"]
role = "viewer"
[[administrator]]
provider = "acme"
groups = ["netops"]
role = "operator"
"#;

/// A coordinator whose people are those of a provider.
struct Company {
    lab: Lab,
    coordinator: Coordinator,
    idp: Idp,
    ca: WebCa,
}

impl Company {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// With options of the coordinator.
    fn start_with(options: &[&str]) -> Self {
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
device_flow = true
ca = "{ca}"
private_addresses = true
refresh = "10s"
[[provider]]
name = "ci"
issuer = "{issuer}"
audience = "{AUDIENCE}"
ca = "{ca}"
private_addresses = true
{RULES}"#,
            certificate = files.certificate.display(),
            key = files.key.display(),
            issuer = idp.issuer,
            client = Idp::CLIENT,
            secret = secret.display(),
            ca = ca.certificate().display(),
        );
        std::fs::write(&config, text).unwrap();
        let config = config.to_string_lossy();
        let options = [&["--config", &config], options].concat();
        let coordinator = Coordinator::start_on(&lab, host, &options).unwrap();
        Self { lab, coordinator, idp, ca }
    }

    /// An invitation, in a file.
    fn invitation(&self, name: &str) -> PathBuf {
        let path = self.lab.folder().join(format!("{name}.invitation"));
        let invite = ["token", "invite", "--out", &path.to_string_lossy()];
        self.coordinator.ctl(&invite).unwrap().success().unwrap();
        path
    }

    /// What `node show` says of a node's labels.
    fn labels(&self, node: &str) -> Value {
        self.coordinator.ctl_json(&["node", "show", node]).unwrap()["labels"].clone()
    }

    /// The entries of the journal about this event.
    fn journal(&self, event: &str) -> Vec<Value> {
        let exported =
            self.coordinator.ctl(&["audit", "export", "--format", "native"]).unwrap().success().unwrap();
        let entries = exported.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        entries.filter(|entry| entry["event"] == event).collect()
    }

    /// A person at a desk of their own.
    fn person(&self, name: &str, options: &[&str]) -> Person {
        let desk = self.lab.host(&format!("{name}-desk")).unwrap();
        Person::new(&self.lab, &desk, name, &self.ca, options).unwrap()
    }
}

/// `bulkhead up --sso` on a machine, on its way.
struct Joining {
    node: Node,
    up: Process,
    /// What it shows: link, codes.
    code: Value,
}

/// `bulkhead up --sso --enrol-only` on a new machine, and the code that it shows.
fn asks(company: &Company, name: &str, options: &[&str]) -> Joining {
    let node = Node::prepare(&company.lab, name).unwrap();
    let invitation = company.invitation(name);
    let invited = ["--name", name, "--invitation", &invitation.to_string_lossy()];
    again(node, &[&["--enrol-only"], &invited[..], options].concat())
}

/// `bulkhead up --sso` on this machine.
fn again(node: Node, options: &[&str]) -> Joining {
    let all = [&["--json", "up", "--sso"], options].concat();
    let mut logs = (1..).map(|time| node.folder().join(format!("sso-{time}.log")));
    let log = logs.find(|log| !log.exists()).unwrap();
    let mut up = Process::start(&mut node.command(&all), &log).unwrap();
    let code = shown_code(&mut up);
    Joining { node, up, code }
}

/// `bulkheadctl login --sso` at a desk, on its way, and the code that it shows.
fn logs_in(company: &Company, desk: &Namespace) -> (Process, Value) {
    let invitation = company.invitation("login");
    let login = ["--json", "login", "--sso", "--invitation", &invitation.to_string_lossy()];
    let log = company.lab.folder().join("login.log");
    let mut login = Process::start(&mut ctl(&company.lab, desk, &login), &log).unwrap();
    let code = shown_code(&mut login);
    (login, code)
}

fn shown_code(asking: &mut Process) -> Value {
    until_some("a code is shown", A_WHILE, || {
        let shown = event(asking, "code");
        assert!(shown.is_some() || asking.running(), "{}", asking.log());
        shown
    })
}

/// The first event of this kind.
fn event(up: &Process, kind: &str) -> Option<Value> {
    let log = up.log();
    let mut events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.find(|event| event["event"] == kind)
}

/// Opens the link that a machine shows, and signs in there.
fn sign_in(company: &Company, person: &mut Person, user: &str, code: &Value) {
    person.open(text(&code["verification_uri_complete"])).unwrap();
    person.press("Sign in with acme").unwrap();
    person.reach(&company.idp.issuer).unwrap();
    person.sign_in(user).unwrap();
    person.press("Allow").unwrap();
}

/// A node of this user, which runs.
fn joined(company: &Company, user: &str, name: &str) -> Node {
    let mut joining = asks(company, name, &[]);
    let mut person = company.person(&format!("{user}-{name}"), &["--no-script"]);
    sign_in(company, &mut person, user, &joining.code);
    person.expect("If you confirm").unwrap();
    person.press("Confirm").unwrap();
    person.expect("is a node now").unwrap();
    ends_well(&mut joining.up);
    let mut node = joining.node;
    node.start().unwrap();
    node.wait_connected();
    node
}

/// Waits for the end of `up`, which must be good.
fn ends_well(up: &mut Process) {
    bulkhead_tests::until("`up` is done", A_WHILE, || !up.running());
    assert!(event(up, "done").is_some(), "{}", up.log());
}

/// `bulkheadctl` at `host` with a session file of its own.
fn ctl(lab: &Lab, host: &Namespace, args: &[&str]) -> std::process::Command {
    let mut command = host.command(bulkhead_tests::program("bulkheadctl"));
    command.arg("--session").arg(lab.folder().join(format!("{}.session", host.v4))).args(args);
    command
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
