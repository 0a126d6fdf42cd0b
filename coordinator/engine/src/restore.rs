//! After a restore. Yesterday's backup does not know what was revoked today, so a restored coordinator changes
//! nothing (but revocations, which are always safe) and pushes nothing, until root on its host accepts it. Then the counters
//! jump over whatever nodes may have seen, and every secret of the backup ends (S5).

use crate::command::Credential;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::event::{Actor, Change};
use crate::links::Held;
use crate::refusal::{Class, Refusal};
use crate::revoke::Stride;
use bulkhead_identity::Now;
use bulkhead_protocol::admin::Signing;

impl Coordinator {
    /// Whether anything may change.
    pub(crate) fn writable(&self) -> Result<(), Refusal> {
        if self.state.restored {
            return Err(Refusal::read_only("it was restored from a backup, which nobody has accepted yet"));
        }
        if self.is_behind() {
            return Err(self.behind());
        }
        Ok(())
    }

    /// Says what the nodes hold that is newer, and the way out for each: accepting the restore jumps over the counters
    /// that the coordinator signs itself.
    fn behind(&self) -> Refusal {
        let ours = self.held();
        let links = self.links.names().filter_map(|name| self.links.connection(name));
        let ahead = links.filter_map(|link| self.links.link(link)).filter(|link| link.ahead);
        let newest = ahead.filter_map(|link| link.held).fold(ours, |newest, held| Held {
            trust_version: newest.trust_version.max(held.trust_version),
            generation: newest.generation.max(held.generation),
            epoch: newest.epoch.max(held.epoch),
        });
        let accept = "accept the restore as root on its host (`bulkhead-coordinator accept-restore`)";
        let (mut what, mut ways) = (Vec::new(), Vec::new());
        if newest.trust_version > ours.trust_version {
            what.push(format!("trust document {} (here {})", newest.trust_version, ours.trust_version));
            ways.push("apply the trust documents it lacks (`bulkheadctl trust apply`)".to_owned());
        }
        if newest.generation > ours.generation {
            what.push(format!("policy generation {} (here {})", newest.generation, ours.generation));
            ways.push(match self.signing() {
                Signing::Online => accept.to_owned(),
                Signing::Offline => format!(
                    "apply a policy signed with `bulkheadctl policy sign --generation {}`",
                    newest.generation.0.saturating_add(1)
                ),
            });
        }
        if newest.epoch > ours.epoch {
            what.push(format!("revocation list {} (here {})", newest.epoch, ours.epoch));
            ways.push(accept.to_owned());
        }
        ways.dedup();
        let why = format!("most nodes hold newer documents than it has: {}", what.join(", "));
        Refusal::read_only(&why).help(format!(
            "check that nothing revoked since the backup is active; then {}",
            ways.join(", and ")
        ))
    }

    /// Whether most of the nodes that are connected know of later changes than we do. One node that claims so
    /// proves nothing: it would be a way to stop the coordinator.
    fn is_behind(&self) -> bool {
        let (ahead, all) = self.links.ahead();
        ahead * 2 > all
    }

    /// Whether the coordinator is read-only, and why. For the status page.
    #[must_use]
    pub fn read_only(&self) -> Option<String> {
        self.writable().err().map(|refusal| refusal.message)
    }

    pub(crate) fn accept_restore(
        &mut self,
        actor: Actor,
        credential: &Credential,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        match credential {
            Credential::LocalRoot { .. } => {}
            Credential::ApiKey(_) | Credential::Anonymous => {
                return Err(Refusal::new(
                    Class::Forbidden,
                    "BH-C160",
                    "only root on the coordinator's host may do this",
                ));
            }
        }
        if self.writable().is_ok() {
            return Err(Refusal::new(Class::Conflict, "BH-C161", "there is no restore to accept"));
        }
        let revocation = self.next_revocations(Stride::Restore, now, |_| {})?;
        // Without its keys the policy keeps its generation, until one that was signed elsewhere overtakes it.
        let policy = match self.signing() {
            Signing::Online => {
                let why = "restored from a backup";
                Some(Box::new(self.resign_policy(&actor, why, Stride::Restore, now)?))
            }
            Signing::Offline => None,
        };
        self.commit(actor, Change::RestoreAccepted { revocation, policy }, now, effects)?;
        self.count_down(now);
        self.receipts.track_epoch(self.state.revoked.epoch);
        self.push_revocations(effects, |_| true);
        self.enforce(now, effects)?;
        self.follow_again(now, effects);
        Ok(Reply::Done)
    }

    /// Brings those up to date that were ahead and are not any more.
    pub(crate) fn follow_again(&mut self, now: Now, effects: &mut Effects) {
        let ours = self.held();
        let mut returned = Vec::new();
        for (connection, link) in self.links.iter_mut() {
            if let Some(held) = link.held.filter(|held| link.set_aside && !held.is_ahead_of(ours)) {
                (link.ahead, link.set_aside) = (false, false);
                returned.push((connection, held));
            }
        }
        for (connection, held) in returned {
            self.bring_up_to_date(connection, held, now, effects);
        }
    }
}
