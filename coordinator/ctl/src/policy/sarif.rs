//! Findings as SARIF 2.1.0, which code review systems show beside the lines they are about.
//!
//! OASIS Standard "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", of which this is the part that
//! findings of one run of one tool need.

use bulkhead_acl::{Code, Diagnostic, Severity};
use serde::Serialize;
use std::path::Path;

/// Where the format is defined.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The format's version.
const VERSION: &str = "2.1.0";

/// Section 3.13.
#[derive(Debug, Serialize)]
pub(super) struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

/// Section 3.14.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    /// Columns count characters, not UTF-16 units (section 3.14.17).
    column_kind: &'static str,
    results: Vec<Found>,
}

/// Section 3.18.
#[derive(Debug, Serialize)]
struct Tool {
    driver: Driver,
}

/// Section 3.19.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: &'static str,
    rules: Vec<Descriptor>,
}

/// Section 3.49: one kind of finding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: &'static str,
    name: String,
    short_description: Text,
}

/// Section 3.11 of a message, section 3.12 of a description.
#[derive(Debug, Serialize)]
struct Text {
    text: String,
}

/// Section 3.27: one finding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    rule_id: String,
    /// Absent for a code that this version does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_index: Option<usize>,
    level: &'static str,
    message: Text,
    /// Empty for a finding about no place.
    locations: Vec<Location>,
}

/// Section 3.28.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

/// Section 3.29.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

/// Section 3.4.
#[derive(Debug, Serialize)]
struct ArtifactLocation {
    uri: String,
}

/// Section 3.30. The end column is one past the last character.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    start_column: usize,
    end_column: usize,
}

/// The findings of one check; their files are in `directory`.
pub(super) fn log(diagnostics: &[Diagnostic], directory: Option<&Path>) -> Log {
    let rules = Code::ALL.iter().map(|&code| Descriptor {
        id: code.as_str(),
        name: format!("{code:?}"),
        short_description: Text { text: code.meaning().to_owned() },
    });
    let driver = Driver { name: "bulkheadctl", version: env!("CARGO_PKG_VERSION"), rules: rules.collect() };
    let results = diagnostics.iter().map(|found| Found::new(found, directory)).collect();
    let run = Run { tool: Tool { driver }, column_kind: "unicodeCodePoints", results };
    Log { schema: SCHEMA, version: VERSION, runs: [run] }
}

impl Found {
    fn new(found: &Diagnostic, directory: Option<&Path>) -> Self {
        let help = found.suggestion.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        Self {
            rule_id: found.code.clone(),
            rule_index: Code::ALL.iter().position(|code| code.as_str() == found.code),
            level: match found.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            message: Text { text: format!("{}{help}", found.message) },
            locations: location(found, directory).into_iter().collect(),
        }
    }
}

fn location(found: &Diagnostic, directory: Option<&Path>) -> Option<Location> {
    if found.file.is_empty() {
        return None;
    }
    let path = directory.map_or_else(|| Path::new(&found.file).to_owned(), |place| place.join(&found.file));
    let region = (found.line > 0).then(|| Region {
        start_line: found.line,
        start_column: found.column.max(1),
        end_column: found.column.max(1) + found.length,
    });
    let artifact_location = ArtifactLocation { uri: uri(&path) };
    Some(Location { physical_location: PhysicalLocation { artifact_location, region } })
}

/// A URI reference, relative where the path is: what RFC 3986 does not allow in a path is escaped (section 2.1).
fn uri(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.strip_prefix("./").unwrap_or(&text);
    let mut uri = if path.is_absolute() { "file://".to_owned() } else { String::new() };
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::Value;

    fn found(line: usize) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code: Code::UnknownValue.as_str().to_owned(),
            file: "web.toml".to_owned(),
            line,
            column: 9,
            message: "label env has no value prdo".to_owned(),
            suggestion: Some("did you mean \"prod\"?".to_owned()),
            excerpt: "from = \"env=prdo\"".to_owned(),
            length: 8,
        }
    }

    fn json(found: Diagnostic) -> Value {
        serde_json::to_value(log(&[found], Some(Path::new("policy.d")))).unwrap()
    }

    #[test]
    fn a_result_says_what_where_and_what_to_do() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&json(found(12))["runs"][0]["results"]).unwrap(), @r#"
        [
          {
            "level": "error",
            "locations": [
              {
                "physicalLocation": {
                  "artifactLocation": {
                    "uri": "policy.d/web.toml"
                  },
                  "region": {
                    "endColumn": 17,
                    "startColumn": 9,
                    "startLine": 12
                  }
                }
              }
            ],
            "message": {
              "text": "label env has no value prdo\nhelp: did you mean \"prod\"?"
            },
            "ruleId": "BH-P011",
            "ruleIndex": 10
          }
        ]
        "#);
    }

    /// The properties that the standard requires, by section.
    #[test]
    fn required_properties_are_there() {
        let log = json(found(12));
        assert_eq!((&log["version"], log["runs"].as_array().unwrap().len()), (&"2.1.0".into(), 1));
        assert!(log["$schema"].as_str().unwrap().ends_with("sarif-schema-2.1.0.json"));
        let run = &log["runs"][0];
        // 3.18.2 and 3.19.8: a tool has a driver with a name.
        let driver = &run["tool"]["driver"];
        assert!(driver["name"].is_string());
        // 3.49.3: every rule has an id, unique here; 3.12.3: a description has text.
        let rules = driver["rules"].as_array().unwrap();
        assert_eq!(rules.len(), Code::ALL.len());
        for rule in rules {
            assert!(rule["id"].is_string() && !rule["shortDescription"]["text"].as_str().unwrap().is_empty());
        }
        let result = &run["results"][0];
        // 3.27.11: a result has a message; 3.27.6: its index names the rule of its id; 3.27.10: a known level.
        assert!(result["message"]["text"].is_string());
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        // 3.30.5 to 3.30.8: lines and columns count from 1.
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert!(region["startLine"].as_u64() > Some(0) && region["startColumn"].as_u64() > Some(0));
        assert!(region["endColumn"].as_u64() >= region["startColumn"].as_u64());
    }

    #[test]
    fn a_finding_without_a_place_has_no_region() {
        let placeless = Diagnostic { file: String::new(), ..found(0) };
        assert_eq!(json(placeless)["runs"][0]["results"][0]["locations"], Value::Array(Vec::new()));
        let location = &json(found(0))["runs"][0]["results"][0]["locations"][0];
        assert_eq!(location["physicalLocation"].get("region"), None);
    }

    #[test]
    fn uris_are_escaped() {
        assert_eq!(uri(Path::new("./policy d/ä#.toml")), "policy%20d/%C3%A4%23.toml");
        assert_eq!(uri(Path::new("/etc/p.toml")), "file:///etc/p.toml");
    }
}
