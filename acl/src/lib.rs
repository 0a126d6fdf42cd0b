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
pub mod format;
mod grant;
mod group;
pub mod hours;
mod lint;
mod merkle;
pub mod names;
mod pairs;
pub mod permit;
mod place;
pub mod policy;
pub mod ports;
pub mod question;
mod region;
pub mod rule;
pub mod schema;
pub mod selector;
pub mod slice;
mod slips;
pub mod source;
mod syntax;
mod table;
mod week;
mod wire;

pub use bundle::{Bundle, PolicyError, SignedBundle};
pub use check::{Checked, FailingTests, Options, check, check_with};
pub use class::{Class, Classes};
pub use decide::{Decision, Subject};
pub use diagnostic::{Code, Diagnostic, Severity};
pub use hours::Hours;
pub use names::Names;
pub use permit::{Direction, Permit, Verdict};
pub use policy::{Permits, Policy};
pub use ports::{PortSet, Service};
pub use rule::{Rule, RuleId, RuleSet};
pub use schema::Schema;
pub use selector::{Polarity, Selector, Term};
pub use source::Sources;
