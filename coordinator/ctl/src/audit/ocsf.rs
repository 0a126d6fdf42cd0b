//! The audit log in the Open Cybersecurity Schema Framework, version 1.8, as collectors of security events read it.
//! One table says which class and activity each kind of entry is; the match over [`AuditEvent`] is exhaustive, so a
//! new kind of entry does not compile without its row. What has no place in a class is under `unmapped`, so nothing
//! of an entry is lost.

use bulkhead_protocol::admin::{AuditEntry, AuditEvent};
use serde_json::{Map, Value, json};

/// Version of the schema: <https://schema.ocsf.io/1.8.0>.
const SCHEMA: &str = "1.8.0";
/// What every event is about.
const SERVICE: &str = "bulkhead-coordinator";

/// The classes that fit. The category is the thousands of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    AccountChange,
    Authentication,
    AuthorizeSession,
    EntityManagement,
    ApiActivity,
}

impl Class {
    const fn uid(self) -> u32 {
        match self {
            Self::AccountChange => 3001,
            Self::Authentication => 3002,
            Self::AuthorizeSession => 3003,
            Self::EntityManagement => 3004,
            Self::ApiActivity => 6003,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::AccountChange => "Account Change",
            Self::Authentication => "Authentication",
            Self::AuthorizeSession => "Authorize Session",
            Self::EntityManagement => "Entity Management",
            Self::ApiActivity => "API Activity",
        }
    }

    const fn category(self) -> (u32, &'static str) {
        match self {
            Self::AccountChange | Self::Authentication | Self::AuthorizeSession | Self::EntityManagement => {
                (3, "Identity & Access Management")
            }
            Self::ApiActivity => (6, "Application Activity"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Informational = 1,
    Low = 2,
    Medium = 3,
    High = 4,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

/// What one kind of entry is: class, activity in that class, severity, and the kind of thing it is about.
struct Row {
    class: Class,
    activity: (u32, &'static str),
    severity: Severity,
    about: &'static str,
}

/// The table. `None` stands for a kind that this program does not know.
fn row(event: Option<AuditEvent>, is_login: bool) -> Row {
    use AuditEvent as E;
    use Class::{AccountChange, ApiActivity, Authentication, AuthorizeSession, EntityManagement};
    use Severity::{High, Informational, Low, Medium};
    let (class, activity, severity, about) = match event {
        Some(E::Initialised) => (EntityManagement, (1, "Create"), Informational, "deployment"),
        Some(E::TokenCreated) => (EntityManagement, (1, "Create"), Informational, "join token"),
        Some(E::TokenRevoked) => (EntityManagement, (4, "Delete"), Informational, "join token"),
        Some(E::NodeEnrolled | E::NodeApproved | E::PersonEnrolled | E::WorkloadEnrolled) => {
            (EntityManagement, (6, "Enroll"), Informational, "node")
        }
        Some(E::NodePending) => (EntityManagement, (1, "Create"), Low, "pending node"),
        Some(E::PendingEnded) => (EntityManagement, (4, "Delete"), Informational, "pending node"),
        Some(E::PersonRefreshed) => (EntityManagement, (3, "Update"), Informational, "person"),
        Some(E::PersonDenied) => (AccountChange, (5, "Disable"), Medium, "person"),
        Some(E::AdministratorSignedIn) => (Authentication, (1, "Logon"), Informational, "session"),
        Some(E::NodeRenewed | E::NodeRelabelled | E::NodeSignedIn) => {
            (EntityManagement, (3, "Update"), Informational, "node")
        }
        Some(E::NodeSessionEnded) => (EntityManagement, (12, "Suspend"), Medium, "node"),
        Some(E::NodeRevoked) => (EntityManagement, (7, "Unenroll"), Medium, "node"),
        Some(E::NodeRemoved) => (EntityManagement, (4, "Delete"), Informational, "node"),
        Some(E::PolicyApplied) => (EntityManagement, (3, "Update"), Low, "policy"),
        Some(E::PolicyConfirmed) => (EntityManagement, (10, "Activate"), Informational, "policy"),
        Some(E::TrustUpdated) => (EntityManagement, (3, "Update"), Medium, "trust document"),
        Some(E::RevocationsSigned) => (EntityManagement, (3, "Update"), Informational, "revocation list"),
        Some(E::OffloadsSwitched) => (EntityManagement, (3, "Update"), Informational, "offloads"),
        Some(E::SessionOpened) => (AuthorizeSession, (1, "Assign Privileges"), Informational, "session"),
        Some(E::SessionClosed) => (Authentication, (2, "Logoff"), Informational, "session"),
        Some(E::KeyCreated) => (AccountChange, (1, "Create"), Low, "API key"),
        Some(E::KeyRevoked) => (AccountChange, (6, "Delete"), Low, "API key"),
        Some(E::KeyUsed) => (Authentication, (1, "Logon"), Informational, "API key"),
        // Without a right to come in at all, or to do this.
        Some(E::Refused) if is_login => (Authentication, (1, "Logon"), Low, "credential"),
        Some(E::Refused) => (ApiActivity, (99, "Refused"), Low, "request"),
        Some(E::RefusalsCounted) => (ApiActivity, (99, "Refused"), Medium, "requests"),
        Some(E::Restored) => (EntityManagement, (3, "Update"), High, "journal"),
        Some(E::RestoreAccepted) => (EntityManagement, (13, "Resume"), High, "journal"),
        None => (ApiActivity, (99, "Unknown"), Informational, "unknown"),
    };
    Row { class, activity, severity, about }
}

/// An entry as one event.
pub(super) fn event(entry: &AuditEntry) -> Value {
    let kind = AuditEvent::named(&entry.event);
    let refused = matches!(kind, Some(AuditEvent::Refused | AuditEvent::RefusalsCounted));
    let Row { class, activity, severity, about } = row(kind, is_login(entry));
    let (category, category_name) = class.category();
    let mut event = json!({
        "metadata": {
            "version": SCHEMA,
            "product": {
                "name": "Bulkhead",
                "vendor_name": "Bulkhead",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "log_name": "audit",
            "event_code": entry.event,
            "sequence": entry.sequence,
            "uid": entry.hash,
        },
        "category_uid": category,
        "category_name": category_name,
        "class_uid": class.uid(),
        "class_name": class.name(),
        "activity_id": activity.0,
        "activity_name": activity.1,
        "type_uid": class.uid() * 100 + activity.0,
        "type_name": format!("{}: {}", class.name(), activity.1),
        "severity_id": severity as u32,
        "severity": severity.name(),
        "time": entry.time.0.saturating_mul(1000),
        "status_id": if refused { 2 } else { 1 },
        "status": if refused { "Failure" } else { "Success" },
        "actor": actor(&entry.actor),
        // Over the unix socket, and what the coordinator does by itself, comes from its own host.
        "src_endpoint": match entry.source {
            Some(address) => json!({ "ip": address }),
            None => json!({ "hostname": "localhost" }),
        },
        "unmapped": entry.detail,
    });
    if let Some(fields) = event.as_object_mut() {
        about_class(class, about, entry, fields);
        copy(entry, &[("code", "status_code"), ("why", "status_detail"), ("reason", "comment")], fields);
    }
    event
}

/// What the class asks for beside what every event has.
fn about_class(class: Class, about: &str, entry: &AuditEntry, fields: &mut Map<String, Value>) {
    match class {
        Class::EntityManagement => {
            let mut entity = Map::from_iter([("type".to_owned(), Value::from(about))]);
            copy(
                entry,
                &[("name", "name"), ("node", "name"), ("id", "uid"), ("subject", "uid")],
                &mut entity,
            );
            for number in ["generation", "version", "epoch"] {
                if let Some(version) = entry.detail.get(number).and_then(Value::as_u64) {
                    entity.entry("version").or_insert_with(|| version.to_string().into());
                }
            }
            // One of name and uid is required.
            if !entity.contains_key("name") && !entity.contains_key("uid") {
                entity.insert("name".to_owned(), about.into());
            }
            fields.insert("entity".to_owned(), entity.into());
        }
        Class::AccountChange | Class::AuthorizeSession => {
            fields.insert("user".to_owned(), user(entry));
            if class == Class::AuthorizeSession {
                let privileges: Vec<_> = entry.detail.get("role").into_iter().cloned().collect();
                fields.insert("privileges".to_owned(), privileges.into());
            }
        }
        Class::Authentication => {
            fields.insert("user".to_owned(), user(entry));
            fields.insert("service".to_owned(), json!({ "name": SERVICE }));
        }
        Class::ApiActivity => {
            let what = entry.detail.get("what").and_then(Value::as_str).unwrap_or(&entry.event);
            let mut api = json!({ "operation": what, "service": { "name": SERVICE } });
            if let Some(code) = entry.detail.get("code") {
                api["response"] = json!({ "error": code, "error_message": entry.detail.get("why") });
            }
            fields.insert("api".to_owned(), api);
        }
    }
}

/// Copies texts of the entry's detail under other names.
fn copy(entry: &AuditEntry, names: &[(&str, &str)], fields: &mut Map<String, Value>) {
    for (from, to) in names {
        if let Some(Value::String(text)) = entry.detail.get(from) {
            fields.entry((*to).to_owned()).or_insert_with(|| text.clone().into());
        }
    }
}

/// Whether it was a login that failed: for want of a credential that is known, or of a person's sign-in (`BH-C20x`).
fn is_login(entry: &AuditEntry) -> bool {
    let code = entry.detail.get("code").and_then(Value::as_str);
    code.is_some_and(|code| matches!(code, "BH-C001" | "BH-C005") || code.starts_with("BH-C20"))
}

/// Whose account or session it is: the person or the key that the entry names; only when it names nobody, who did it. A
/// person is known by the provider's word, and the key is their credential.
fn user(entry: &AuditEntry) -> Value {
    let mut user = Map::new();
    copy(entry, &[("name", "name"), ("subject", "uid"), ("issuer", "domain"), ("id", "uid")], &mut user);
    if user.contains_key("domain") {
        copy(entry, &[("id", "credential_uid")], &mut user);
    }
    if !user.contains_key("name") && !user.contains_key("uid") {
        user.insert("name".to_owned(), entry.actor.as_str().into());
    }
    user.into()
}

/// Who did it. An actor reads `kind:name`, or is one word.
fn actor(actor: &str) -> Value {
    let (kind, name) = actor.split_once(':').unwrap_or((actor, ""));
    let (type_id, r#type) = match kind {
        "system" => return json!({ "app_name": SERVICE }),
        "root" => (2, "Admin"),
        "admin" | "person" => (1, "User"),
        "node" => (3, "System"),
        "token" => (99, "Join token"),
        _ => (0, "Unknown"),
    };
    let mut user = json!({ "name": actor, "type_id": type_id, "type": r#type });
    if !name.is_empty() {
        user["uid"] = name.into();
    }
    json!({ "user": user })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::Timestamp;

    fn entry(event: &str, actor: &str, detail: Value) -> AuditEntry {
        AuditEntry {
            sequence: 7,
            time: Timestamp(1_796_126_400),
            actor: actor.to_owned(),
            source: Some("192.0.2.1".parse().unwrap()),
            event: event.to_owned(),
            detail,
            hash: "ab".repeat(32),
        }
    }

    /// What a class requires: <https://schema.ocsf.io/1.8.0/classes>.
    fn required(class: u64) -> &'static [&'static [&'static str]] {
        match class {
            3001 => &[&["user"]],
            3002 => &[&["user"], &["service", "dst_endpoint"]],
            3003 => &[&["user"], &["privileges", "group", "groups"]],
            3004 => &[&["entity"]],
            6003 => &[&["actor"], &["api"], &["src_endpoint"]],
            other => panic!("what is class {other}?"),
        }
    }

    #[test]
    fn every_kind_of_entry_has_what_its_class_requires() {
        let names = AuditEvent::ALL.iter().map(|event| event.as_str()).chain(["from_the_future"]);
        for name in names {
            for actor in
                ["system", "root:0", "admin:ci", "node:web", "token:ab", "person:acme/u-1 (Ada)", "stranger"]
            {
                for detail in
                    [json!({}), json!({ "code": "BH-C001", "why": "w", "what": "GET /" }), Value::Null]
                {
                    let event = event(&entry(name, actor, detail));
                    let number = |field: &str| event[field].as_u64().unwrap();
                    assert_eq!(
                        number("type_uid"),
                        number("class_uid") * 100 + number("activity_id"),
                        "{name}"
                    );
                    assert_eq!(number("category_uid"), number("class_uid") / 1000, "{name}");
                    assert!((1..=6).contains(&number("severity_id")) && number("status_id") <= 2, "{name}");
                    assert_eq!(number("time"), 1_796_126_400_000);
                    assert_eq!(event["metadata"]["version"], SCHEMA);
                    assert!(event["metadata"]["product"]["name"].is_string());
                    for any_of in required(number("class_uid")) {
                        assert!(any_of.iter().any(|field| !event[*field].is_null()), "{name}: {any_of:?}");
                    }
                    let who = &event["actor"];
                    assert!(who["app_name"].is_string() || who["user"]["name"].is_string(), "{name} {actor}");
                }
            }
        }
    }

    #[test]
    fn a_revocation_is_an_entity_that_left_with_the_reason_as_comment() {
        let event = event(&entry(
            "node_revoked",
            "admin:ann",
            json!({ "name": "web", "reason": "lost", "epoch": 3 }),
        ));
        assert_eq!((&event["class_uid"], &event["activity_id"]), (&json!(3004), &json!(7)));
        assert_eq!(event["entity"], json!({ "type": "node", "name": "web", "version": "3" }));
        assert_eq!((&event["comment"], &event["src_endpoint"]["ip"]), (&json!("lost"), &json!("192.0.2.1")));
        assert_eq!(event["unmapped"]["reason"], "lost");
    }

    /// As the coordinator writes the particulars of a key.
    fn key(issuer: Value, subject: Value) -> Value {
        json!({ "id": "k-1", "name": "ada", "role": "operator", "expires": 1_796_130_000,
                "issuer": issuer, "subject": subject })
    }

    #[test]
    fn the_account_is_the_one_that_was_changed_and_not_who_changed_it() {
        let by_provider = key(json!("https://login.acme.example"), json!("u-1"));
        let ada = json!({ "name": "ada", "uid": "u-1", "domain": "https://login.acme.example",
                          "credential_uid": "k-1" });
        let cases = [
            ("administrator_signed_in", "admin:ada", by_provider, ada),
            ("key_created", "root:0", key(Value::Null, Value::Null), json!({ "name": "ada", "uid": "k-1" })),
            (
                "session_opened",
                "root:0",
                key(Value::Null, Value::Null),
                json!({ "name": "ada", "uid": "k-1" }),
            ),
            ("key_revoked", "admin:eve", json!({ "id": "k-1" }), json!({ "uid": "k-1" })),
            ("key_used", "admin:ada", json!({ "id": "k-1" }), json!({ "uid": "k-1" })),
            ("session_closed", "admin:ada", json!({ "id": "k-1" }), json!({ "uid": "k-1" })),
            (
                "person_denied",
                "system",
                json!({ "issuer": "https://login.acme.example", "subject": "u-1", "reason": "disabled" }),
                json!({ "uid": "u-1", "domain": "https://login.acme.example" }),
            ),
        ];
        for (name, actor, detail, user) in cases {
            let event = event(&entry(name, actor, detail));
            assert_eq!(event["user"], user, "{name}");
            let has_privileges = event.get("privileges").is_some();
            assert_eq!(has_privileges, event["class_uid"] == 3003, "{name}: no other class has them");
        }
        let detail = json!({ "issuer": "https://login.acme.example", "subject": "u-1", "name": "Ada",
                             "session_until": null, "administrator": null });
        let refreshed = event(&entry("person_refreshed", "system", detail));
        assert_eq!(refreshed["entity"], json!({ "type": "person", "name": "Ada", "uid": "u-1" }));
        let opened = event(&entry("session_opened", "root:0", key(Value::Null, Value::Null)));
        assert_eq!(opened["privileges"], json!(["operator"]));
    }

    #[test]
    fn a_person_whose_sign_in_is_refused_is_a_user_whose_logon_failed() {
        let detail = json!({ "what": "POST /confirm", "code": "BH-C205", "why": "no rule matches" });
        let event = event(&entry("refused", "person:acme/u-1 (Ada)", detail));
        assert_eq!((&event["type_uid"], &event["status_id"]), (&json!(300_201), &json!(2)));
        assert_eq!(event["user"], json!({ "name": "person:acme/u-1 (Ada)" }));
        assert_eq!(event["actor"]["user"]["type_id"], 1);
        assert_eq!(event["status_code"], "BH-C205");
    }

    #[test]
    fn a_wrong_key_is_a_logon_that_failed_and_a_low_role_an_api_call_that_did() {
        let refused = |code: &str| json!({ "what": "GET /api/v1/nodes", "code": code, "why": "no" });
        let wrong = event(&entry("refused", "stranger", refused("BH-C001")));
        assert_eq!((&wrong["type_uid"], &wrong["status_id"]), (&json!(300_201), &json!(2)));
        let low = event(&entry("refused", "admin:ann", refused("BH-C004")));
        assert_eq!((&low["class_uid"], &low["status_detail"]), (&json!(6003), &json!("no")));
        assert_eq!(low["api"]["operation"], "GET /api/v1/nodes");
    }
}
