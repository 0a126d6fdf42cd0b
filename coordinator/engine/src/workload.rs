//! Workloads: what runs where a platform vouches for it (Kubernetes, GitHub, GitLab) joins by the token that the
//! platform gave it, and no secret is handed out. It is nobody's node: it has no session, and its certificates follow
//! one another as those of a node that joined by a token.

use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::newcomer::{Newcomer, Proved, wished_name};
use crate::person::{Claims, Person};
use crate::refusal::{Class, Refusal};
use crate::registry::NodeRecord;
use crate::tally::Tally;
use bulkhead_identity::{CertificateRequest, Now};
use std::time::Duration;

/// Most nodes of one workload that are not revoked.
pub(crate) const MAX_NODES_PER_WORKLOAD: usize = 1000;
/// Most enrolments of one workload in [`ENROLMENT_WINDOW`].
pub(crate) const MAX_ENROLMENTS: u32 = 1000;
/// See [`MAX_ENROLMENTS`].
pub(crate) const ENROLMENT_WINDOW: Duration = Duration::from_secs(3600);
/// Workloads that are counted at once.
const MAX_COUNTED: usize = 16_384;

/// How often each workload enrolled.
pub(crate) type Enrolments = Tally<Person, MAX_ENROLMENTS, { ENROLMENT_WINDOW.as_secs() }, MAX_COUNTED>;

/// What a workload shows.
pub(crate) struct Workload<'a> {
    pub(crate) enrolment: &'a str,
    pub(crate) request: &'a CertificateRequest,
    pub(crate) claims: &'a Claims,
    pub(crate) name: Option<&'a str>,
    pub(crate) entropy: &'a Entropy,
}

impl Coordinator {
    pub(crate) fn enrol_workload(
        &mut self,
        workload: &Workload<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let proved = Proved::answer(self.take_challenge(workload.enrolment)?, workload.request, now)?;
        let claims = workload.claims;
        claims.check()?;
        let grant = self.granted(claims)?;
        if grant.approval {
            let why = "the rules want an approval, and a workload cannot wait for one";
            return Err(Refusal::new(Class::Forbidden, "BH-C230", why));
        }
        let name = wished_name(workload.name)?;
        if self.has_rights(&name) {
            let message = format!(
                "a rule of the policy names node {name}: an administrator has to say which machine that is, \
                 and a workload cannot wait for it"
            );
            return Err(Refusal::new(Class::Forbidden, "BH-C231", message)
                .help("choose another name, or ask for a join token with this one"));
        }
        self.has_room_for(&claims.person(), now)?;
        let (labels, lifetime, workload_is) = (grant.labels, grant.lifetime, Some(claims.person()));
        let newcomer = Newcomer { name, proved, labels, owner: None, lifetime, workload: workload_is };
        let node = Box::new(self.new_node(newcomer, workload.entropy.serial(), now)?);
        let (provider, person, name) = (claims.provider.clone(), claims.person(), node.name.clone());
        let actor = Actor::Person { provider: provider.clone(), person: person.clone(), name: String::new() };
        self.enrolments.count(person.clone(), now);
        let change = Change::WorkloadEnrolled { provider, workload: person, node };
        self.commit(actor, change, now, effects)?;
        self.admit(&name, now);
        self.flush_due_maps(now, effects);
        self.enrolled(&name).map(Reply::Enrolled)
    }

    /// One token is good for many nodes, and addresses of the overlay are used once: whoever gets hold of it makes so
    /// many and no more.
    fn has_room_for(&self, workload: &Person, now: Now) -> Result<(), Refusal> {
        // A job that ended without a word has let its certificate run out.
        let lives = |node: &NodeRecord| node.is_active() && node.certificate.not_after > now.wall;
        let own = |node: &&NodeRecord| lives(node) && node.workload.as_ref() == Some(workload);
        if self.state.nodes.values().filter(own).count() >= MAX_NODES_PER_WORKLOAD {
            let message =
                format!("this workload has {MAX_NODES_PER_WORKLOAD} nodes (MAX_NODES_PER_WORKLOAD)");
            return Err(Refusal::new(Class::Forbidden, "BH-C232", message)
                .help("a job leaves with `bulkhead leave`; have those revoked that are not needed"));
        }
        if !self.enrolments.admits(workload, now) {
            let message = format!(
                "this workload has joined {MAX_ENROLMENTS} times in an hour (MAX_ENROLMENTS of a workload)"
            );
            return Err(Refusal::new(Class::TooMany, "BH-C233", message).help("try again in an hour"));
        }
        Ok(())
    }
}
