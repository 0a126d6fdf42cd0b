//! Names and labels. Hostile until parsed: what comes out may end in a file, a terminal or a DNS answer.
//!
//! Every type here has one constructor that checks, and serde and minicbor go through it. Nothing that was
//! parsed contains a control character, a quote, a path separator, an upper-case or a non-ASCII letter, or
//! begins with a dot or a dash. Copies share the text: a node has thousands of names, each in several places.

use std::fmt;
use std::sync::Arc;

/// Longest trust domain in bytes: a DNS name has at most 253, and every node's name with its dot must fit
/// in front.
pub const MAX_TRUST_DOMAIN_BYTES: usize = 253 - 1 - MAX_NAME_BYTES;

/// Longest node name, label key and label value in bytes (one DNS label, RFC 1035, section 2.3.4).
pub const MAX_NAME_BYTES: usize = 63;

/// At most this many labels on one node.
pub const MAX_LABELS: usize = 64;

/// How much of a refused value an error repeats.
const MAX_QUOTED_CHARS: usize = 64;

/// Why a name or label was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {why}")]
pub struct NameError {
    /// What was to be parsed, for example `node name`.
    pub what: &'static str,
    /// The beginning of the refused text; printed with every unprintable character escaped.
    pub value: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

impl NameError {
    pub(crate) fn new(what: &'static str, value: &str, why: &'static str) -> Self {
        Self { what, value: value.chars().take(MAX_QUOTED_CHARS).collect(), why }
    }
}

macro_rules! name {
    ($($(#[$doc:meta])* $type:ident, $what:literal, $check:path;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses the exact text; nothing is trimmed or folded to lower case.
            ///
            /// # Errors
            /// When the text breaks a rule of this type.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(why) => Err(NameError::new($what, text, why)),
                }
            }

            /// The text, as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }

        impl<C> minicbor::Encode<C> for $type {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.str(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $type {
            fn decode(
                decoder: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                Self::parse(decoder.str()?).map_err(minicbor::decode::Error::custom)
            }
        }
    )* };
}

name! {
    /// The name of one deployment: a lower-case DNS name of at most [`MAX_TRUST_DOMAIN_BYTES`], for example
    /// `acme.example`.
    TrustDomain, "trust domain", check_trust_domain;
    /// A node's name: one RFC 1123 label, lower case, 1 to 63 bytes.
    NodeName, "node name", check_node_name;
    /// A label's key: `[a-z0-9._-]`, 1 to 63 bytes, starting with a letter.
    LabelKey, "label key", check_label_key;
    /// A label's value: `[a-z0-9._-]`, 1 to 63 bytes, starting with a letter or a digit.
    LabelValue, "label value", check_label_value;
}

fn check_trust_domain(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err("is longer than MAX_TRUST_DOMAIN_BYTES");
    }
    let mut last = "";
    for part in text.split('.') {
        check_dns_label(part)?;
        last = part;
    }
    // RFC 3696, section 2: otherwise `192.0.2.1` would be a name.
    if last.bytes().all(|b| b.is_ascii_digit()) {
        Err("ends in a number, as an address does")
    } else {
        Ok(())
    }
}

fn check_node_name(text: &str) -> Result<(), &'static str> {
    check_dns_label(text)?;
    // RFC 5891, section 4.2.3.1: reserved. `xn--` is how a look-alike of another node's name is written.
    if text.as_bytes().get(2..4) == Some(b"--") {
        Err("has dashes in third and fourth place")
    } else {
        Ok(())
    }
}

/// RFC 1123, section 2.1.
fn check_dns_label(text: &str) -> Result<(), &'static str> {
    check_length(text)?;
    if !text.bytes().all(|b| is_lower_or_digit(b) || b == b'-') {
        return Err("has a character other than a-z, 0-9 and -");
    }
    if text.starts_with('-') || text.ends_with('-') { Err("starts or ends with a dash") } else { Ok(()) }
}

fn check_label_key(text: &str) -> Result<(), &'static str> {
    check_label_text(text)?;
    if text.starts_with(|c: char| c.is_ascii_lowercase()) {
        Ok(())
    } else {
        Err("does not start with a letter")
    }
}

fn check_label_value(text: &str) -> Result<(), &'static str> {
    check_label_text(text)?;
    // Neither `..` as a path nor `-x` as an option, wherever a value ends up.
    if text.bytes().next().is_some_and(is_lower_or_digit) {
        Ok(())
    } else {
        Err("does not start with a letter or a digit")
    }
}

fn check_label_text(text: &str) -> Result<(), &'static str> {
    check_length(text)?;
    if text.bytes().all(|b| is_lower_or_digit(b) || matches!(b, b'.' | b'_' | b'-')) {
        Ok(())
    } else {
        Err("has a character other than a-z, 0-9, dot, underscore and dash")
    }
}

fn check_length(text: &str) -> Result<(), &'static str> {
    match text.len() {
        0 => Err("is empty or has an empty part"),
        1..=MAX_NAME_BYTES => Ok(()),
        _ => Err("is longer than 63 bytes"),
    }
}

fn is_lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// The labels the coordinator vouches for; at most [`MAX_LABELS`], each key once. Copies share them.
#[derive(Clone, Debug, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(LabelKey, LabelValue)]>);

impl Labels {
    /// Collects labels.
    ///
    /// # Errors
    /// When a key appears twice, or there are more than [`MAX_LABELS`].
    pub fn new(entries: impl IntoIterator<Item = (LabelKey, LabelValue)>) -> Result<Self, NameError> {
        let mut labels = Vec::new();
        for (key, value) in entries {
            insert(&mut labels, key, value)?;
        }
        Ok(Self(labels.into()))
    }

    /// Parses `k=v,k=v`; the empty string is no labels.
    ///
    /// # Errors
    /// When an entry is not `key=value`, or as [`Labels::new`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut labels = Vec::new();
        for entry in text.split(',') {
            let (key, value) =
                entry.split_once('=').ok_or_else(|| NameError::new("label", entry, "is not key=value"))?;
            insert(&mut labels, LabelKey::parse(key)?, LabelValue::parse(value)?)?;
        }
        Ok(Self(labels.into()))
    }

    /// By key as text, so that a selector need not own a `LabelKey`.
    pub fn get(&self, key: &str) -> Option<&LabelValue> {
        let at = self.0.binary_search_by(|(own, _)| own.as_str().cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&LabelKey, &LabelValue)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Those whose key `keep` selects.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&LabelKey) -> bool) -> Self {
        Self(self.0.iter().filter(|(key, _)| keep(key)).cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Puts a label in its place in the order of the keys.
fn insert(
    labels: &mut Vec<(LabelKey, LabelValue)>,
    key: LabelKey,
    value: LabelValue,
) -> Result<(), NameError> {
    let Err(at) = labels.binary_search_by(|(other, _)| other.cmp(&key)) else {
        return Err(NameError::new("label", key.as_str(), "appears twice"));
    };
    if labels.len() == MAX_LABELS {
        return Err(NameError::new("label", key.as_str(), "is one more than MAX_LABELS"));
    }
    labels.insert(at, (key, value));
    Ok(())
}

/// `key=value,key=value` in the order of the keys; [`Labels::parse`] reads it back.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Labels {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl serde::Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> serde::Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LabelsVisitor)
    }
}

/// Reads entry by entry: a map type of the library would let the second of two equal keys win in silence.
struct LabelsVisitor;

impl<'de> serde::de::Visitor<'de> for LabelsVisitor {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of label keys to label values")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut labels = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            insert(&mut labels, key, value).map_err(serde::de::Error::custom)?;
        }
        Ok(Labels(labels.into()))
    }
}

impl<C> minicbor::Encode<C> for Labels {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.map(self.0.len() as u64)?;
        for (key, value) in self.iter() {
            encoder.encode_with(key, context)?.encode_with(value, context)?;
        }
        Ok(())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Labels {
    fn decode(decoder: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let mut labels = Vec::new();
        for entry in decoder.map_iter_with(context)? {
            let (key, value) = entry?;
            insert(&mut labels, key, value).map_err(minicbor::decode::Error::custom)?;
        }
        Ok(Self(labels.into()))
    }
}
