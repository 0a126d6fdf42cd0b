//! Every span of time the coordinator decides by, in one place.

use std::time::Duration;

/// How long before its issue a certificate or bundle is valid: clocks of nodes may be behind ours.
pub(crate) const BACKDATE: Duration = Duration::from_secs(300);
/// How long a policy bundle lives; it is signed again, as a new generation, at half of it.
pub(crate) const POLICY_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Shortest time in which a policy is to be confirmed.
pub(crate) const MIN_CONFIRM_WITHIN: Duration = Duration::from_secs(5);
/// Longest time in which a policy is to be confirmed.
pub(crate) const MAX_CONFIRM_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// How long nodes have to answer a question.
pub(crate) const ANSWER_WINDOW: Duration = Duration::from_secs(2);
/// How long a challenge can be answered.
pub(crate) const CHALLENGE_WINDOW: Duration =
    Duration::from_secs(bulkhead_protocol::enrol::ENROLMENT_WINDOW_SECS);
/// Changes that only add reach the maps this often; what takes away is sent at once.
pub(crate) const MAP_INTERVAL: Duration = Duration::from_millis(50);
/// What is due and could not be done is tried again this often.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The rim ticks at least this often, so that a jump of the wall clock is noticed.
pub(crate) const TICK_INTERVAL: Duration = Duration::from_secs(60);
/// How long an expired certificate stays on the revocation list: nodes' clocks may be behind ours.
pub(crate) const REVOCATION_MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a join token lives unless it says otherwise.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// The longest a join token may live.
pub(crate) const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a node waits for an administrator.
pub(crate) const PENDING_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long an ended join token is still listed.
pub(crate) const TOKEN_MEMORY: Duration = Duration::from_secs(30 * 24 * 3600);
/// One more renewal per node this often, beyond [`RENEWAL_BURST`].
pub(crate) const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);
/// Renewals a node may make at once.
pub(crate) const RENEWAL_BURST: u32 = 8;
/// How long before the end of a trust document it is warned of.
pub(crate) const TRUST_WARNING: Duration = Duration::from_secs(60 * 24 * 3600);
/// How long before the end of a seal its node is listed.
pub(crate) const SEAL_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);
/// After a change of the issuer, so many nodes are issued new certificates at once, this often.
pub(crate) const REISSUE_BATCH: usize = 64;
/// See [`REISSUE_BATCH`].
pub(crate) const REISSUE_INTERVAL: Duration = Duration::from_millis(200);
