//! Both verdicts on one service: ours with its reason, and the peer's own word.
//!
//! Property: whether it is allowed is what the engine enforces; the policy text only adds why.

use bulkhead_acl::{Decision, Direction, Service, Subject};
use bulkhead_identity::NodeName;
use bulkhead_node_engine::limits::PROBE_TIMEOUT;
use bulkhead_node_engine::{Explanation, Probe, ProbeOutcome};

use super::answer::no_peer;
use super::probing::Probing;
use super::wire::{Explained, PeerVerdict, Refusal, VerdictView};
use crate::handle::DaemonHandle;

/// May this service flow between us and that peer?
pub(super) struct Question {
    /// The other end.
    pub(super) peer: NodeName,
    /// What is asked for.
    pub(super) service: Service,
    /// Opened by the peer.
    pub(super) inbound: bool,
}

/// Answers it.
///
/// # Errors
/// When that is no peer of this node.
pub(super) async fn explain(
    daemon: &DaemonHandle,
    probing: &Probing,
    question: &Question,
) -> Result<Explained, Refusal> {
    let ours = ours(daemon, question)?;
    let theirs = theirs(daemon, probing, question).await;
    let domain = daemon.trust_domain();
    let (me, peer) = (format!("{}.{domain}", daemon.me().name()), format!("{}.{domain}", question.peer));
    let (from, to) = if question.inbound { (peer, me) } else { (me, peer) };
    Ok(Explained {
        schema: "bulkhead.explanation/1".into(),
        from,
        to,
        service: question.service.to_string(),
        generation: daemon.held().policy.generation().0,
        ours,
        theirs,
    })
}

/// What this node enforces, and why.
fn ours(daemon: &DaemonHandle, question: &Question) -> Result<VerdictView, Refusal> {
    let direction = if question.inbound { Direction::Inbound } else { Direction::Outbound };
    let enforced = daemon.engine().explain(&question.peer, direction, question.service, daemon.now());
    let refused =
        |why: &str| VerdictView { allowed: false, rule: None, place: None, reasons: vec![why.into()] };
    match enforced {
        Explanation::Allowed { rule, .. } => {
            let mut view = reasoned(daemon, question).unwrap_or_else(|| refused(""));
            if !view.allowed {
                view.reasons.clear();
            }
            view.allowed = true;
            view.rule = Some(rule.0.to_string());
            Ok(view)
        }
        Explanation::Denied { .. } => {
            let mut view = reasoned(daemon, question).unwrap_or_else(|| refused("no rule allows it"));
            view.allowed = false;
            Ok(view)
        }
        // The map may still name it, verified: then the policy has the reason.
        Explanation::NotAPeer => {
            let mut view = reasoned(daemon, question).ok_or_else(|| no_peer(&question.peer))?;
            view.allowed = false;
            Ok(view)
        }
        Explanation::PeerExpired => Ok(refused("the peer's certificate has ended")),
        Explanation::SelfExpired => Ok(refused(
            "this node's certificate, the policy or the trust document has ended; see `bulkhead doctor`",
        )),
    }
}

/// What the policy says and why; `None` when the peer cannot be verified.
fn reasoned(daemon: &DaemonHandle, question: &Question) -> Option<VerdictView> {
    let peer = daemon.verify_peer(&question.peer)?.ok()?;
    let held = daemon.held();
    let (me, them) = (Subject::from(&held.me), Subject::from(&peer));
    let (from, to) = if question.inbound { (&them, &me) } else { (&me, &them) };
    let decision = held.policy.rules().decide(from, to, question.service, daemon.now().wall);
    Some(view(decision))
}

fn view(decision: Decision) -> VerdictView {
    match decision {
        Decision::Allowed { rule, all, file, line } => {
            let others = all.iter().filter(|other| **other != rule);
            let reasons = others.map(|other| format!("rule {} allows it too", other.0)).collect();
            VerdictView {
                allowed: true,
                rule: Some(rule.0.to_string()),
                place: Some(format!("{file}:{line}")),
                reasons,
            }
        }
        Decision::Forbidden { rule, file, line } => VerdictView {
            allowed: false,
            rule: Some(rule.0.to_string()),
            place: Some(format!("{file}:{line}")),
            reasons: vec!["a never rule forbids it; no allow rule can pierce that".into()],
        },
        Decision::NoRule { nearest, missing } => {
            let mut reasons = vec!["no rule allows it".to_owned()];
            if let Some(nearest) = nearest {
                reasons.push(format!("nearest is rule {}: {}", nearest.0, missing.join("; ")));
            }
            VerdictView { allowed: false, rule: None, place: None, reasons }
        }
    }
}

/// The peer's word. Only a peer can be asked, and only about what we would open to it.
async fn theirs(daemon: &DaemonHandle, probing: &Probing, question: &Question) -> PeerVerdict {
    if question.inbound {
        return PeerVerdict::NotAsked { why: "what comes in is for this node to decide".into() };
    }
    if daemon.engine().peer(&question.peer, daemon.now()).is_none() {
        return PeerVerdict::NotAsked { why: "there is no tunnel to it".into() };
    }
    let probe = Probe::Verdict(question.service);
    let mut answers = probing.ask(daemon, [question.peer.clone()], probe, PROBE_TIMEOUT).await;
    match answers.remove(&question.peer) {
        Some(ProbeOutcome::Verdict { allowed, generation, .. }) => {
            PeerVerdict::Answered { allowed, generation: generation.0 }
        }
        Some(ProbeOutcome::Echo { .. } | ProbeOutcome::TimedOut) | None => PeerVerdict::Silent {},
    }
}
