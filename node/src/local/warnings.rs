//! What is wrong with a running node, from its status alone, each with its remedy.
//!
//! Pure: the same [`Status`] gives the same warnings, to `status`, `status --check` and `doctor`.

use super::wire::{Status, Warning};

/// Clocks further apart than this are worth a warning: half of the shortest sensible certificate margin.
const MAX_SKEW_SECS: u64 = 30;
/// Renewal is due at half of the certificate's life; with less than a third left it has been failing.
const RENEWAL_IS_LATE: u64 = 3;

/// What the status does not show, but the warnings need.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// How far the host's clock is behind what was vouched for.
    pub(super) behind_secs: u64,
    /// The last document that was refused.
    pub(super) refused: Option<String>,
    /// Names of map entries that did not verify.
    pub(super) refused_entries: Vec<String>,
    /// Why the local network can reach our overlay addresses, when it can.
    pub(super) unguarded: Option<String>,
    /// Why nobody may be talked to, when that is so.
    pub(super) isolated: Option<String>,
    /// Seconds until the owner has to sign in again, when that is soon.
    pub(super) session_left_secs: Option<u64>,
    /// Whether the policy has ended.
    pub(super) policy_ended: bool,
}

/// Everything that is wrong, gravest first.
pub(super) fn warnings(status: &Status, evidence: &Evidence) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |code: &str, message: String, remedy: &str| {
        found.push(Warning { code: code.into(), message, remedy: remedy.into() });
    };
    if let Some(why) = &evidence.isolated {
        warn(
            "isolated",
            format!("this node talks to nobody: {why}"),
            "see `bulkhead cert show` and the other warnings",
        );
    }
    certificate(status, &mut warn);
    match evidence.session_left_secs {
        Some(0) => warn("session-ended", "its owner's session has ended".into(), SIGN_IN),
        Some(left) => warn("session-ending", format!("its owner's session ends in {}", hours(left)), SIGN_IN),
        None => {}
    }
    if !status.coordinator.connected {
        let why =
            status.coordinator.last_error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        warn(
            "not-connected",
            format!("the coordinator is not connected{why}"),
            "check that its port is reachable over UDP; permitted traffic goes on meanwhile",
        );
    }
    clock(status, evidence, &mut warn);
    if status.generation == 0 {
        warn("no-policy", "no policy has arrived".into(), "apply one with `bulkheadctl policy apply DIR`");
    } else if evidence.policy_ended {
        warn(
            "policy-ended",
            "the policy has ended".into(),
            "apply it again with `bulkheadctl policy apply DIR`",
        );
    }
    if let Some(refused) = &evidence.refused {
        warn(
            "document-refused",
            format!("the coordinator sent {refused}"),
            "the former one stays in force; check the coordinator",
        );
    }
    if let Some(why) = &evidence.unguarded {
        warn(
            "unguarded",
            format!("the local network can reach this host's mesh addresses past the tunnel: {why}"),
            "load the kernel's nf_tables, or drop such packets in this host's own firewall; then restart the daemon",
        );
    }
    for name in &evidence.refused_entries {
        warn(
            "peer-refused",
            format!("{name} is in the map but does not verify"),
            "see `bulkhead peers --denied`",
        );
    }
    for peer in status.peers.iter().filter(|peer| peer.unanswered) {
        warn(
            "peer-silent",
            format!("{} does not answer", peer.name),
            "check that it is up, and that UDP to its endpoint gets through",
        );
    }
    found
}

const SIGN_IN: &str =
    "sign in again: `bulkhead up --sso`; without it this node stops when its certificate ends";

fn hours(secs: u64) -> String {
    match secs {
        0..7_200 => format!("{} min", secs / 60),
        _ => format!("{} h", secs / 3_600),
    }
}

fn certificate(status: &Status, warn: &mut impl FnMut(&str, String, &str)) {
    let remedy = "it renews by itself once the coordinator answers; try `bulkhead cert renew`";
    let left = status.certificate_left_secs;
    if left == 0 {
        warn("certificate-ended", "the certificate has ended".into(), remedy);
    } else if left < status.certificate_lifetime_secs / RENEWAL_IS_LATE {
        warn("certificate-ending", format!("the certificate ends in {left} s and was not renewed"), remedy);
    }
}

fn clock(status: &Status, evidence: &Evidence, warn: &mut impl FnMut(&str, String, &str)) {
    let remedy = "check time synchronisation";
    if let Some(skew) = status.coordinator.skew_secs.filter(|skew| skew.unsigned_abs() > MAX_SKEW_SECS) {
        let side = if skew > 0 { "ahead of" } else { "behind" };
        warn("clock-skew", format!("clock is {} s {side} the coordinator", skew.unsigned_abs()), remedy);
    } else if evidence.behind_secs > MAX_SKEW_SECS {
        let behind = evidence.behind_secs;
        warn("clock-behind", format!("clock is {behind} s behind what it was before"), remedy);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A node that is well, with `changes` laid over it.
    fn check(changes: serde_json::Value, evidence: &Evidence) -> Vec<String> {
        let mut status = serde_json::json!({
            "schema": "bulkhead.status/1", "generation": 42, "epoch": 1, "trust_version": 1, "stage": "enforce",
            "certificate_left_secs": 60_000, "certificate_lifetime_secs": 86_400, "peers": [], "warnings": [],
            "node": {
                "name": "web.acme.example", "overlay_v4": "100.64.0.0", "labels": {}, "interface": "bulkhead0",
                "port": 51820, "resolvers": [], "write_resolv_conf": false, "up_secs": 1, "software": "0",
            },
            "coordinator": { "address": "a:8443", "connected": true, "since_secs": 1, "skew_secs": 0 },
        });
        for (key, value) in changes.as_object().unwrap() {
            status[key] = value.clone();
        }
        let status: Status = serde_json::from_value(status).unwrap();
        let found = warnings(&status, evidence);
        assert!(found.iter().all(|warning| !warning.message.is_empty() && !warning.remedy.is_empty()));
        found.into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn a_node_that_is_well_has_no_warnings() {
        assert!(check(serde_json::json!({}), &Evidence::default()).is_empty());
    }

    #[test]
    fn each_trouble_has_its_warning() {
        let cases = [
            (serde_json::json!({ "certificate_left_secs": 0 }), "certificate-ended"),
            (serde_json::json!({ "certificate_left_secs": 20_000 }), "certificate-ending"),
            (serde_json::json!({ "generation": 0 }), "no-policy"),
            (serde_json::json!({ "coordinator": { "connected": false, "since_secs": 1 } }), "not-connected"),
            (
                serde_json::json!({ "coordinator": { "connected": true, "since_secs": 1, "skew_secs": -42 } }),
                "clock-skew",
            ),
        ];
        for (changes, code) in cases {
            assert_eq!(check(changes, &Evidence::default()), [code]);
        }
    }

    #[test]
    fn what_the_status_does_not_show_is_warned_of_too() {
        let evidence = Evidence {
            behind_secs: 3600,
            refused: Some("a policy that is older".into()),
            refused_entries: vec!["db".into()],
            unguarded: Some("no nf_tables".into()),
            isolated: Some("its certificate is revoked".into()),
            session_left_secs: Some(7_300),
            policy_ended: true,
        };
        let expected = [
            "isolated",
            "session-ending",
            "clock-behind",
            "policy-ended",
            "document-refused",
            "unguarded",
            "peer-refused",
        ];
        assert_eq!(check(serde_json::json!({}), &evidence), expected);
    }
}
