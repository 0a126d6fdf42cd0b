//! Enrolment: a challenge, then proofs of both keys and a join token's secret. Spending the token and creating
//! the node are one event, so a token for one node makes one node (D1). A stranger hears one sentence for
//! every way in which a token can be wrong (D2). Challenges wait in a bounded table that no single network can
//! crowd others out of.
//!
//! The challenge is also the beginning of the other ways in: [`crate::signin`] and [`crate::workload`].

use crate::challenge::Open;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::newcomer::{Newcomer, Proved, wished_name};
use crate::refusal::{Class, Refusal};
use crate::tokens::TokenRecord;
use crate::waiting::Waiting;
use bulkhead_identity::{CertificateRequest, NodeName, Now};
use bulkhead_protocol::enrol::BeginResponse;
use std::net::IpAddr;

/// How many challenges wait at once.
pub(crate) const MAX_CHALLENGES: usize = 4096;

/// Challenges that wait for their answer.
pub(crate) type Challenges = Waiting<Open, MAX_CHALLENGES>;

/// What a joining machine shows.
pub(crate) struct Finish<'a> {
    pub(crate) enrolment: &'a str,
    pub(crate) request: &'a CertificateRequest,
    pub(crate) secret: &'a [u8],
    pub(crate) name: Option<&'a str>,
    pub(crate) entropy: &'a Entropy,
}

impl Coordinator {
    pub(crate) fn enrol_begin(
        &mut self,
        source: IpAddr,
        entropy: &Entropy,
        now: Now,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let enrolment = entropy.id("enrolment", 16);
        let open = Open::new(entropy, now);
        let (challenge, challenge_key) = (open.challenge().0.to_vec(), open.key().0.to_vec());
        self.challenges.expire(|open| open.is_over(now));
        self.challenges.insert(enrolment.clone(), source, open);
        Ok(Reply::EnrolBegun(BeginResponse { enrolment, challenge, challenge_key }))
    }

    /// Takes the challenge; whatever comes of its answer, it can be answered once.
    pub(crate) fn take_challenge(&mut self, enrolment: &str) -> Result<Open, Refusal> {
        self.challenges.take(enrolment).ok_or_else(|| {
            Refusal::new(Class::NotFound, "BH-C101", "this enrolment is over or never began")
                .help("run `bulkhead up` again")
        })
    }

    pub(crate) fn enrol_finish(
        &mut self,
        finish: &Finish<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let proved = Proved::answer(self.take_challenge(finish.enrolment)?, finish.request, now);
        // Looked up before the proofs are judged, so that a wrong token costs as much time as a right one.
        let token = self.state.usable_token(finish.secret, now);
        let proved = proved?;
        let token = token.ok_or_else(token_refused)?;
        let name = choose_name(token, finish.name)?;
        let labels = token.labels.clone();
        let newcomer = Newcomer { name, proved, labels, owner: None, lifetime: None, workload: None };
        let token = token.id.clone();
        let node = self.new_node(newcomer, finish.entropy.serial(), now)?;
        let (actor, name) = (Actor::JoinToken { id: token.clone() }, node.name.clone());
        self.commit(actor, Change::NodeEnrolled { token, node: Box::new(node) }, now, effects)?;
        self.admit(&name, now);
        self.flush_due_maps(now, effects);
        self.enrolled(&name).map(Reply::Enrolled)
    }
}

/// The name on the token, else the wish; the coordinator makes up none.
fn choose_name(token: &TokenRecord, wish: Option<&str>) -> Result<NodeName, Refusal> {
    token.name.clone().map_or_else(|| wished_name(wish), Ok)
}

fn token_refused() -> Refusal {
    Refusal::new(
        Class::Forbidden,
        "BH-C102",
        "the join token is not valid here: unknown, expired, revoked or used up",
    )
    .help("ask an administrator for a new one: bulkheadctl token create")
}
