//! What a verified token says of a person: bounded, printable, and the same when it is said again.

use bulkhead_coordinator::sso::Claims;
use bulkhead_coordinator::sso::claims::{Reading, is_within_limits, parse};
use serde_json::{Map, Value, json};

const READING: Reading<'static> =
    Reading { provider: "acme", issuer: "https://idp.example", groups_claim: "groups" };

/// The claims of a token.
pub fn claims(data: &[u8]) -> bool {
    let Ok(claims) = parse(data, READING) else { return false };
    assert!(is_within_limits(&claims), "{claims:?}");
    assert_eq!((claims.provider.as_str(), claims.issuer.as_str()), (READING.provider, READING.issuer));
    let again = parse(said_again(&claims).as_bytes(), READING).unwrap();
    assert_eq!(again, claims);
    true
}

/// A token that says this, and nothing inside objects.
fn said_again(claims: &Claims) -> String {
    let mut token: Map<String, Value> =
        claims.other.iter().map(|(path, values)| (path.clone(), json!(values))).collect();
    token.insert("iss".into(), claims.issuer.clone().into());
    token.insert("sub".into(), claims.subject.clone().into());
    token.insert("name".into(), claims.name.clone().into());
    token.insert("groups".into(), json!(claims.groups));
    Value::Object(token).to_string()
}
