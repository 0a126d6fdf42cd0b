//! What a verified token says of a person or a workload, in bounds.
//!
//! Groups decide about access, so groups that are not exactly understood are refused, with what to do about it
//! (D9). Any other claim that does not fit is left out: a rule that asks for it does not match then. E-mail
//! addresses and names are never among the claims that rules see, because people and providers change them and
//! give them to others (D8).

use super::{Claims, is_unprintable, json, printable};
use bulkhead_coordinator_engine::{MAX_CLAIM_BYTES, MAX_GROUPS, MAX_SUBJECT_BYTES};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Claims that rules see.
pub const MAX_CLAIMS: usize = 256;
/// Values of one of them.
pub const MAX_VALUES: usize = 256;
/// Bytes of a claim's name, with the names of the objects it is in.
pub const MAX_PATH_BYTES: usize = 256;
/// Objects within objects.
pub const MAX_DEPTH: usize = 8;
/// Characters of a name that is shown.
pub const MAX_NAME_CHARS: usize = 128;

/// Claims that no rule sees: those the verifier has used up, and those that name a person in a way that can change or
/// pass to another.
const NOT_FOR_RULES: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "nonce",
    "azp",
    "at_hash",
    "c_hash",
    "s_hash",
    "sid",
    "auth_time",
    "email",
    "email_verified",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "unique_name",
    "upn",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
    "phone_number_verified",
    "address",
    "updated_at",
    OVERAGE,
    "_claim_sources",
    "hasgroups",
];
/// Where a token names the claims that are to be had elsewhere (OpenID Connect Core 1.0, section 5.6.2).
const OVERAGE: &str = "_claim_names";

/// Whose token it is, and how to read it.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The provider's name in the configuration.
    pub provider: &'a str,
    /// The issuer that was verified.
    pub issuer: &'a str,
    /// Where groups are.
    pub groups_claim: &'a str,
}

/// Claims that are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// Not an object, or a name is there twice.
    #[error("the token's claims are not one JSON object with each name once")]
    Malformed,
    /// The token is of another issuer than was verified.
    #[error("the token is of another issuer")]
    Issuer,
    /// No subject.
    #[error(
        "the token names nobody: `sub` must be a string of 1 to {MAX_SUBJECT_BYTES} bytes, without control characters"
    )]
    Subject,
    /// Groups of another shape.
    #[error(
        "the claim {0:?} is not a list of strings: have the provider send the names or ids of groups as strings"
    )]
    Groups(String),
    /// A group with a strange name.
    #[error(
        "the claim {0:?} has a group whose name is empty, longer than {MAX_CLAIM_BYTES} bytes, or holds control characters"
    )]
    GroupName(String),
    /// Too many groups.
    #[error(
        "the claim {0:?} names {1} groups, and at most {MAX_GROUPS} are taken: have the provider send only those that this coordinator's rules name"
    )]
    TooManyGroups(String, usize),
    /// The provider left the groups out because they are many.
    #[error(
        "the provider left out {0:?} because this person is in too many groups for a token: have it send only the groups that are assigned to this application, or use roles instead"
    )]
    Overage(String),
    /// Too many other claims.
    #[error("the token has more than {MAX_CLAIMS} claims")]
    TooManyClaims,
    /// Two claims have one path.
    #[error("the claim {0:?} is there twice, once by a name with a dot and once inside an object")]
    Ambiguous(String),
}

/// Reads the claims of a token whose signature, issuer, audience and times were verified.
///
/// # Errors
/// See [`ClaimsError`].
pub fn parse(payload: &[u8], reading: Reading<'_>) -> Result<Claims, ClaimsError> {
    let token = json::object(payload).map_err(|_| ClaimsError::Malformed)?;
    if token.get("iss").and_then(Value::as_str) != Some(reading.issuer) {
        return Err(ClaimsError::Issuer);
    }
    let subject = subject(&token)?;
    Ok(Claims {
        provider: reading.provider.to_owned(),
        issuer: reading.issuer.to_owned(),
        name: name(&token).unwrap_or_default(),
        subject,
        groups: groups(&token, reading.groups_claim)?,
        other: other(token, reading.groups_claim)?,
    })
}

fn subject(token: &Map<String, Value>) -> Result<String, ClaimsError> {
    let subject = token.get("sub").and_then(Value::as_str).unwrap_or_default();
    let fits = (1..=MAX_SUBJECT_BYTES).contains(&subject.len()) && !subject.contains(is_unprintable);
    if fits { Ok(subject.to_owned()) } else { Err(ClaimsError::Subject) }
}

/// The first that is there of what people are called by.
fn name(token: &Map<String, Value>) -> Option<String> {
    let texts = ["name", "preferred_username"].iter().filter_map(|claim| token.get(*claim)?.as_str());
    texts
        .map(|text| printable(text.trim(), MAX_NAME_CHARS).trim_end().to_owned())
        .find(|text| !text.is_empty())
}

fn groups(token: &Map<String, Value>, claim: &str) -> Result<BTreeSet<String>, ClaimsError> {
    if is_left_out(token, claim) {
        return Err(ClaimsError::Overage(claim.to_owned()));
    }
    let listed = match find(token, claim) {
        None => &[],
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        Some(Value::Array(listed)) => listed.as_slice(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(ClaimsError::Groups(claim.to_owned()));
        }
    };
    if listed.len() > MAX_GROUPS {
        return Err(ClaimsError::TooManyGroups(claim.to_owned(), listed.len()));
    }
    listed.iter().map(|group| group_name(claim, group)).collect()
}

fn group_name(claim: &str, group: &Value) -> Result<String, ClaimsError> {
    let name = group.as_str().ok_or_else(|| ClaimsError::Groups(claim.to_owned()))?;
    let fits = !name.is_empty() && is_bounded(name);
    if fits { Ok(name.to_owned()) } else { Err(ClaimsError::GroupName(claim.to_owned())) }
}

/// Entra ID sends, instead of more groups than it likes, where they could be fetched; in the implicit flow only
/// `hasgroups`.
fn is_left_out(token: &Map<String, Value>, claim: &str) -> bool {
    let elsewhere = token.get(OVERAGE).is_some_and(|names| names.get(claim).is_some() || !names.is_object());
    elsewhere || (claim == "groups" && token.get("hasgroups").is_some_and(|has| *has != Value::Bool(false)))
}

/// The claim of this name, or else what its path of names with dots leads to.
fn find<'a>(token: &'a Map<String, Value>, claim: &str) -> Option<&'a Value> {
    let named = token.get(claim);
    named.or_else(|| {
        let (first, rest) = claim.split_once('.')?;
        find(token.get(first)?.as_object()?, rest)
    })
}

fn other(
    token: Map<String, Value>,
    groups_claim: &str,
) -> Result<BTreeMap<String, Vec<String>>, ClaimsError> {
    let mut found = BTreeMap::new();
    for (name, value) in token {
        if name != groups_claim && !NOT_FOR_RULES.contains(&name.as_str()) {
            flatten(name, value, 0, &mut found)?;
        }
    }
    found.remove(groups_claim);
    Ok(found)
}

fn flatten(
    path: String,
    value: Value,
    depth: usize,
    found: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), ClaimsError> {
    if path.len() > MAX_PATH_BYTES || path.contains(is_unprintable) || depth > MAX_DEPTH {
        return Ok(());
    }
    let values = match value {
        Value::Object(members) => {
            for (name, value) in members {
                flatten(format!("{path}.{name}"), value, depth + 1, found)?;
            }
            return Ok(());
        }
        Value::Array(listed) => listed.iter().map(scalar).collect::<Option<Vec<_>>>(),
        one @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            scalar(&one).map(|value| vec![value])
        }
    };
    let Some(values) = values.filter(|values| values.len() <= MAX_VALUES) else { return Ok(()) };
    if found.len() == MAX_CLAIMS {
        return Err(ClaimsError::TooManyClaims);
    }
    match found.insert(path.clone(), values) {
        None => Ok(()),
        Some(_) => Err(ClaimsError::Ambiguous(printable(&path, MAX_PATH_BYTES))),
    }
}

/// A value that a rule can name; `None` for those that it cannot.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        // A rule names whole numbers only: others have many spellings.
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        Value::String(text) if is_bounded(text) => Some(text.clone()),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_bounded(text: &str) -> bool {
    text.len() <= MAX_CLAIM_BYTES && !text.contains(is_unprintable)
}

/// Whether every limit of this module holds: true of whatever [`parse`] makes.
#[must_use]
pub fn is_within_limits(claims: &Claims) -> bool {
    let mut values = claims.groups.iter().chain(claims.other.values().flatten());
    let path_fits = |path: &String| path.len() <= MAX_PATH_BYTES && !path.contains(is_unprintable);
    (1..=MAX_SUBJECT_BYTES).contains(&claims.subject.len())
        && !claims.subject.contains(is_unprintable)
        && !claims.name.contains(is_unprintable)
        && claims.name.chars().count() <= MAX_NAME_CHARS
        && claims.groups.len() <= MAX_GROUPS
        && claims.other.len() <= MAX_CLAIMS
        && claims.other.values().all(|values| values.len() <= MAX_VALUES)
        && claims.other.keys().all(path_fits)
        && values.all(|value| is_bounded(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const READING: Reading<'static> =
        Reading { provider: "acme", issuer: "https://idp.example", groups_claim: "groups" };

    /// What is read of a token with these claims besides issuer and subject.
    fn read(claims: Value) -> Result<Claims, ClaimsError> {
        let mut token = json!({ "iss": READING.issuer, "sub": "u-1" });
        for (name, value) in claims.as_object().unwrap() {
            token[name] = value.clone();
        }
        parse(token.to_string().as_bytes(), READING)
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn groups_are_a_list_of_strings_or_one_string_or_none() {
        assert_eq!(read(json!({ "groups": ["a", "b", "a"] })).unwrap().groups, names(&["a", "b"]));
        assert_eq!(read(json!({ "groups": "a" })).unwrap().groups, names(&["a"]));
        assert_eq!(read(json!({ "groups": [] })).unwrap().groups, names(&[]));
        assert_eq!(read(json!({})).unwrap().groups, names(&[]));
    }

    #[test]
    fn groups_can_be_inside_an_object() {
        let reading = Reading { groups_claim: "realm_access.roles", ..READING };
        let token =
            json!({ "iss": READING.issuer, "sub": "u", "realm_access": { "roles": ["a"], "x": "y" } });
        let claims = parse(token.to_string().as_bytes(), reading).unwrap();
        assert_eq!(claims.groups, names(&["a"]));
        assert_eq!(claims.other.keys().collect::<Vec<_>>(), ["realm_access.x"]);
    }

    #[test]
    fn d9_groups_of_another_shape_are_refused() {
        let shapes =
            [json!(1), json!(null), json!(true), json!({}), json!([["a"]]), json!([1]), json!(["a", null])];
        for groups in shapes {
            assert_eq!(
                read(json!({ "groups": groups })),
                Err(ClaimsError::Groups("groups".into())),
                "{groups}"
            );
        }
        for name in ["", "a\u{0}", "a\nb", "\u{202e}a", &"a".repeat(MAX_CLAIM_BYTES + 1)] {
            assert_eq!(
                read(json!({ "groups": [name] })),
                Err(ClaimsError::GroupName("groups".into())),
                "{name}"
            );
        }
    }

    #[test]
    fn d9_ten_thousand_groups_are_refused_with_what_to_do() {
        let many = |count: usize| (0..count).map(|n| format!("g{n}")).collect::<Vec<_>>();
        assert_eq!(read(json!({ "groups": many(MAX_GROUPS) })).unwrap().groups.len(), MAX_GROUPS);
        let refused = read(json!({ "groups": many(10_000) })).unwrap_err();
        assert_eq!(refused, ClaimsError::TooManyGroups("groups".into(), 10_000));
        assert!(refused.to_string().contains("have the provider send only"), "{refused}");
    }

    #[test]
    fn d9_groups_that_were_left_out_are_not_no_groups() {
        for overage in [
            json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": { "src1": { "endpoint": "https://graph" } } }),
            json!({ "hasgroups": true }),
            json!({ "hasgroups": "true", "groups": [] }),
            json!({ "_claim_names": "groups" }),
        ] {
            assert_eq!(read(overage.clone()), Err(ClaimsError::Overage("groups".into())), "{overage}");
        }
        assert!(read(json!({ "_claim_names": { "picture": "src1" }, "hasgroups": false })).is_ok());
    }

    #[test]
    fn d3_a_token_without_a_subject_is_nobodys() {
        for subject in [json!(""), json!(null), json!(1), json!(["u"]), json!("u\n"), json!("u".repeat(256))]
        {
            assert_eq!(read(json!({ "sub": subject })), Err(ClaimsError::Subject), "{subject}");
        }
        assert_eq!(read(json!({ "sub": "u".repeat(255) })).unwrap().subject.len(), 255);
        assert_eq!(read(json!({ "iss": "https://idp.example/" })), Err(ClaimsError::Issuer));
    }

    #[test]
    fn d8_no_rule_sees_an_e_mail_address_or_a_name() {
        let claims = read(json!({
            "email": "boss@acme.example", "email_verified": true, "preferred_username": "boss",
            "upn": "boss@acme.example", "name": "Boss", "department": "it",
        }))
        .unwrap();
        assert_eq!(claims.other, BTreeMap::from([("department".into(), vec!["it".into()])]));
        assert_eq!((claims.subject.as_str(), claims.name.as_str()), ("u-1", "Boss"));
    }

    #[test]
    fn names_are_only_shown_and_cannot_break_a_line() {
        let shown = |name: &str| read(json!({ "name": name, "preferred_username": "ada" })).unwrap().name;
        assert_eq!(shown("Ada\u{1b}[2J\n\u{202e}x"), "Ada\u{fffd}[2J\u{fffd}\u{fffd}x");
        assert_eq!(shown("  "), "ada");
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), MAX_NAME_CHARS);
        assert_eq!(read(json!({ "name": { "x": 1 } })).unwrap().name, "");
    }

    #[test]
    fn claims_of_workloads_are_named_by_their_path() {
        let claims = read(json!({
            "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "web", "uid": "1-2" } },
            "repository": "acme/app", "run_attempt": 3, "ref_protected": true, "load": 0.5, "nothing": null,
            "amr": ["pwd", "mfa"], "mixed": ["a", {}],
        }))
        .unwrap();
        let expected = [
            ("amr", vec!["pwd", "mfa"]),
            ("kubernetes.io.namespace", vec!["shop"]),
            ("kubernetes.io.serviceaccount.name", vec!["web"]),
            ("kubernetes.io.serviceaccount.uid", vec!["1-2"]),
            ("ref_protected", vec!["true"]),
            ("repository", vec!["acme/app"]),
            ("run_attempt", vec!["3"]),
        ];
        let expected =
            expected.map(|(name, values)| (name.into(), values.into_iter().map(String::from).collect()));
        assert_eq!(claims.other, BTreeMap::from(expected));
    }

    #[test]
    fn a_path_that_two_claims_have_is_refused() {
        let twice = json!({ "a.b": "granted by the provider", "a": { "b": "written by a stranger" } });
        assert_eq!(read(twice), Err(ClaimsError::Ambiguous("a.b".into())));
        let many: Map<String, Value> = (0..=MAX_CLAIMS).map(|n| (format!("c{n}"), json!("x"))).collect();
        assert_eq!(read(Value::Object(many)), Err(ClaimsError::TooManyClaims));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[a-c]{1,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("groups|sub|name|_claim_names|[a-b.]{1,3}|.{0,3}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_token_says_what_is_taken_is_bounded_and_printable(said in any_json()) {
            let said = if said.is_object() { said } else { json!({ "groups": said }) };
            if let Ok(claims) = read(said) {
                prop_assert!(is_within_limits(&claims));
            }
        }
    }
}
