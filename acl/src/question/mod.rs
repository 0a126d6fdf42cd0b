//! Questions about a whole policy: who can, why, what would change, what can never be.
//!
//! Every answer is exact at the moment it is asked for, by set algebra over label classes ([`Census`],
//! [`plan`]) or over all label combinations that the schema allows ([`assert_never`], [`exposure`]): no
//! sampling and no solver. For all moments to come ([`When`]) an answer errs on the side of what may be.
//! Where an exact answer would be too large, it is refused with the limit's name.

mod assertion;
mod block;
mod census;
mod cut;
mod difference;
mod explain;
mod exposure;
mod extent;
mod moments;
mod plan;
mod reach;
mod when;
mod who;

pub use assertion::{Assertion, Example, assert_never, assert_never_among};
pub use block::MAX_COMBINATIONS;
pub use census::Census;
pub use cut::{CutFlow, LiveFlow, Loss, LostWay, cut_flows, lost_ways};
pub use difference::MAX_JUDGEMENTS;
pub use explain::{Considered, Explanation, Kind, explain};
pub use exposure::{Exposed, ExposureQuery, MAX_EXPOSED, TooMany, exposure};
pub use moments::MAX_MOMENTS;
pub use plan::{
    ClassChange, ClassView, MAX_CLASS_CHANGES, PairChange, Plan, RuleChanges, Summary, TimedChange,
    UnusedRule, plan,
};
pub use reach::Reachable;
pub use when::When;
pub use who::Who;
