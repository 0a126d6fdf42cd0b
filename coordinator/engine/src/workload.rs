//! Workloads: what runs where a platform vouches for it (Kubernetes, GitHub, GitLab) joins by the token that the
//! platform gave it, and no secret is handed out. It is nobody's node: it has no session, and its certificates follow
//! one another as those of a node that joined by a token.

use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::newcomer::{Newcomer, Proved, wished_name};
use crate::person::Claims;
use crate::refusal::{Class, Refusal};
use bulkhead_identity::{CertificateRequest, Now};

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
        let newcomer = Newcomer { name, proved, labels: grant.labels, owner: None, lifetime: grant.lifetime };
        let node = Box::new(self.new_node(newcomer, workload.entropy.serial(), now)?);
        let (provider, person, name) = (claims.provider.clone(), claims.person(), node.name.clone());
        let actor = Actor::Person { provider: provider.clone(), person: person.clone(), name: String::new() };
        let change = Change::WorkloadEnrolled { provider, workload: person, node };
        self.commit(actor, change, now, effects)?;
        self.admit(&name, now);
        self.flush_due_maps(now, effects);
        self.enrolled(&name).map(Reply::Enrolled)
    }
}
