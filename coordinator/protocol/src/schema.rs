//! What the admin API's JSON looks like where its types come from crates that know nothing of JSON Schema, or are
//! texts with rules of their own. Descriptions only: what is accepted is decided by the types that read it, and the
//! API's tests hold the two against each other.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A node's name.
pub const NODE_NAME: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
/// A label's key.
const LABEL_KEY: &str = "^[a-z][a-z0-9._-]{0,62}$";
/// A label's value.
const LABEL_VALUE: &str = "^[a-z0-9][a-z0-9._-]{0,62}$";

macro_rules! inline {
    ($($(#[$doc:meta])* $type:ident => $schema:tt;)*) => { $(
        $(#[$doc])*
        pub enum $type {}

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )* };
}

inline! {
    /// Bytes in base64url without padding.
    Base64Url => { "type": "string", "pattern": "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2,3})?$" };
    /// An Ed25519 public key, in hexadecimal.
    Key => { "type": "string", "pattern": "^[0-9a-f]{64}$" };
    /// Labels, by key.
    Labels => {
        "type": "object",
        "maxProperties": (bulkhead_identity::name::MAX_LABELS),
        "propertyNames": { "pattern": (LABEL_KEY) },
        "additionalProperties": { "type": "string", "pattern": (LABEL_VALUE) }
    };
    /// Labels to be set, by key; `null` removes one.
    LabelChanges => {
        "type": "object",
        "propertyNames": { "pattern": (LABEL_KEY) },
        "additionalProperties": { "type": ["string", "null"], "pattern": (LABEL_VALUE) }
    };
    /// A set of offloads.
    Offloads => {
        "type": "array",
        "items": { "type": "string", "enum": ["tun-tso", "tun-gro", "udp-gso", "udp-gro"] }
    };
    /// Sets of offloads, by node.
    OffloadsByNode => {
        "type": "object",
        "additionalProperties": {
            "type": "array",
            "items": { "type": "string", "enum": ["tun-tso", "tun-gro", "udp-gso", "udp-gro"] }
        }
    };
}

/// Policy files: name to text.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
pub struct Sources(pub BTreeMap<String, String>);

/// How bad a finding is.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// It can.
    Warning,
}

/// One finding about a policy text: [`bulkhead_acl::Diagnostic`].
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable, for example `BH-P003`.
    pub code: String,
    /// The file's name.
    pub file: String,
    /// From 1; 0 without a place.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
    /// The line itself.
    pub excerpt: String,
    /// Characters that are marked.
    pub length: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_finding_is_written_as_it_is_described() {
        let finding = bulkhead_acl::Diagnostic {
            severity: bulkhead_acl::Severity::Warning,
            code: "BH-P001".to_owned(),
            file: "main.toml".to_owned(),
            line: 1,
            column: 2,
            message: "m".to_owned(),
            suggestion: None,
            excerpt: String::new(),
            length: 3,
        };
        let written = serde_json::to_value(&finding).unwrap();
        let described: Diagnostic = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(described).unwrap(), written);
    }

    #[test]
    fn offloads_have_the_names_that_are_described() {
        let all: Vec<_> = crate::offload::Offload::ALL.iter().map(|offload| offload.as_str()).collect();
        let schema = SchemaGenerator::default().into_root_schema_for::<Offloads>();
        assert_eq!(schema.as_value()["items"]["enum"], serde_json::json!(all));
    }
}
