//! Who may talk to whom: policy language, evaluation, explanation. Pure: text, labels and a time go in,
//! decisions come out.
//!
//! Default deny, always: no rules, an unknown term, an expired bundle or an error permit nobody. Text
//! becomes a [`RuleSet`] by [`check()`], a [`RuleSet`] becomes a [`Policy`] by signature, and only a [`Policy`]
//! makes a [`Permit`].

pub mod bundle;
pub mod check;
pub mod class;
mod compile;
pub mod decide;
pub mod diagnostic;
mod document;
mod expectation;
mod grant;
mod group;
mod lint;
pub mod permit;
mod place;
pub mod ports;
mod region;
pub mod rule;
mod schema;
pub mod selector;
pub mod source;
mod syntax;
mod table;
mod wire;

pub use bundle::{Bundle, Policy, PolicyError};
pub use check::{Checked, check};
pub use class::{Class, Classes};
pub use decide::{Decision, Subject};
pub use diagnostic::{Code, Diagnostic, Severity};
pub use permit::{Direction, Permit, Verdict};
pub use ports::{PortSet, Service};
pub use rule::{Rule, RuleId, RuleSet};
pub use selector::{Polarity, Selector, Term};
pub use source::Sources;
