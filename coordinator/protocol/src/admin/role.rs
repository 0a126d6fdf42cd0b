//! What administrators may do: three roles, each of which may do all that the one before it may. Who has none may do
//! nothing; what only the host's root may do has no role.

use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What an administrator may do, from least to most. The numbers are those of the journal.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[cbor(index_only)]
#[serde(rename_all = "lowercase")]
pub enum AdminRole {
    /// Reads everything but secrets.
    #[n(2)]
    Viewer,
    /// Also runs nodes: enrols, labels, approves and revokes them.
    #[n(1)]
    Operator,
    /// Also decides who may talk to whom, whom everybody trusts, and who else administers: everything but what only
    /// the host's root may.
    #[n(0)]
    Admin,
}

impl AdminRole {
    /// All there are, from least to most.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As shown to people and written in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether whoever has this role may do what `needed` may.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        self >= needed
    }
}

impl fmt::Display for AdminRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not the name of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; there are viewer, operator and admin")]
pub struct UnknownRole(String);

impl FromStr for AdminRole {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let named = Self::ALL.into_iter().find(|role| role.as_str() == text);
        named.ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_role_covers_itself_and_what_is_below_it() {
        let covered =
            |role: AdminRole| AdminRole::ALL.into_iter().filter(|other| role.covers(*other)).count();
        assert_eq!(AdminRole::ALL.map(covered), [1, 2, 3]);
    }

    #[test]
    fn numbers_of_the_journal_stay() {
        let number = |role: AdminRole| minicbor::to_vec(role).unwrap();
        assert_eq!(AdminRole::ALL.map(number), [[2], [1], [0]]);
    }

    #[test]
    fn a_role_reads_back_as_it_is_written() {
        for role in AdminRole::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!("root".parse::<AdminRole>().is_err() && "Admin".parse::<AdminRole>().is_err());
    }
}
