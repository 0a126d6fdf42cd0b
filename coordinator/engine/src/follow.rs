//! What a provider says of a person when it is asked again, or when they sign in somewhere, counts at once for all that
//! hangs on them: labels follow groups, a right that was lost ends what it gave, and whom it no longer vouches for is not
//! renewed. One node that cannot follow keeps no other from it.

use crate::admins::AdminRole;
use crate::command::RefreshOutcome;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::person::{Claims, Owner, Person, display};
use crate::refusal::{Class, Refusal};
use crate::registry::Certified;
use crate::revoke::{MAX_REMARK_BYTES, Stride};
use crate::rules::{Grant, PERSON_CERTIFICATE_LIFETIME};
use crate::sessions::{Regrant, regranted};
use crate::state::{ReplayError, State, contradiction};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{Labels, NodeName, Now, Timestamp};

/// What becomes of the sessions of a person's nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sessions {
    /// They go on, and what is granted is given.
    GoOn,
    /// They stay as they are, and things are only taken away: whoever signs in does so by claims that may be as old as
    /// the page that they are asked on.
    Stay,
}

impl State {
    pub(crate) fn refresh_person(
        &mut self,
        (person, name): (&Person, &str),
        session_until: Option<Timestamp>,
        not_prolonged: &[NodeName],
        time: Timestamp,
    ) {
        let waiting = self.pending.values_mut().map(|waiting| (&waiting.name, &mut waiting.owner));
        let nodes = self.nodes.values_mut().filter_map(|node| Some((&node.name, node.owner.as_mut()?)));
        for (node, owner) in nodes.chain(waiting).filter(|(_, owner)| owner.person == *person) {
            owner.name = name.to_owned();
            owner.session_until = match session_until {
                None => owner.session_until.min(time),
                Some(_) if not_prolonged.contains(node) => owner.session_until,
                Some(until) => until,
            };
        }
    }

    /// A person's administrator keys permit this much from now on.
    pub(crate) fn follow_administrator(&mut self, person: &Person, administrator: Option<AdminRole>) {
        let theirs = |key: &crate::ApiKey| key.person.as_ref() == Some(person);
        match administrator {
            None => self.api_keys.retain(|_, key| !theirs(key)),
            Some(role) => {
                self.api_keys.values_mut().filter(|key| theirs(key)).for_each(|key| key.role = role);
            }
        }
    }

    /// Returns the certificate as it was. Nothing that is issued on its account lasts longer than it does now.
    pub(crate) fn end_node_session(
        &mut self,
        name: &NodeName,
        labels: &Labels,
        time: Timestamp,
    ) -> Result<Certified, ReplayError> {
        let node = self.active_mut(name)?;
        let Some(owner) = node.owner.as_mut() else {
            return contradiction(format!("node {name} is nobody's"));
        };
        owner.session_until = owner.session_until.min(time);
        owner.granted = Labels::default();
        node.labels.clone_from(labels);
        let ended = node.certificate.clone();
        node.certificate.not_after = ended.not_after.min(time);
        Ok(ended)
    }

    pub(crate) fn deny_person(&mut self, person: &Person, time: Timestamp) {
        for owner in self.nodes.values_mut().filter_map(|node| node.owner.as_mut()) {
            if owner.person == *person {
                owner.session_until = owner.session_until.min(time);
                owner.denied = true;
            }
        }
        self.api_keys.retain(|_, key| key.person.as_ref() != Some(person));
    }

    /// Active nodes of a person.
    pub(crate) fn nodes_of(&self, person: &Person) -> Vec<NodeName> {
        let active = self.nodes.values().filter(|node| node.is_active() && node.is_of(person));
        active.map(|node| node.name.clone()).collect()
    }

    fn least_role(&self, person: &Person) -> Option<AdminRole> {
        self.api_keys.values().filter(|key| key.person.as_ref() == Some(person)).map(|key| key.role).min()
    }

    /// Whether administrator keys of this person permit anything else than they are to.
    fn has_more(&self, person: &Person, administrator: Option<AdminRole>) -> bool {
        let theirs = |key: &&crate::ApiKey| key.person.as_ref() == Some(person);
        self.api_keys.values().filter(theirs).any(|key| Some(key.role) != administrator)
    }

    fn owner_of(&self, name: &NodeName) -> Option<&Owner> {
        self.nodes.get(name)?.owner.as_ref()
    }

    /// Whether anything here hangs on this person.
    fn knows(&self, person: &Person) -> bool {
        self.nodes.values().any(|node| node.is_active() && node.is_of(person))
            || self.pending.values().any(|waiting| waiting.owner.person == *person)
            || self.api_keys.values().any(|key| key.person.as_ref() == Some(person))
    }
}

impl Coordinator {
    /// A provider was asked about a person again. Restored from a backup, nothing is concluded from it: it is asked
    /// again soon.
    pub(crate) fn refreshed(
        &mut self,
        person: &Person,
        outcome: RefreshOutcome,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        if !self.knows(person) {
            return Ok(Reply::Refreshed(false));
        }
        match outcome {
            RefreshOutcome::Denied(reason) => {
                let reason: String =
                    reason.chars().filter(|c| !c.is_control()).take(MAX_REMARK_BYTES / 4).collect();
                let change = Change::PersonDenied { person: person.clone(), reason };
                self.commit(Actor::System, change, now, effects)?;
                self.sign_ins.follow_administrator(person, None);
                self.end_waiting_of(person, "its person is refused by the provider", now, effects)?;
                // Their certificates stay as they are, and are the last: with them goes until when the session lasts.
                for name in self.state.nodes_of(person) {
                    self.send_certificate(&name, effects);
                }
            }
            RefreshOutcome::Claims(claims) if claims.person() == *person => {
                claims.check()?;
                self.follow_claims(&claims, Sessions::GoOn, entropy, now, effects)?;
            }
            // Not an answer about this person, so none at all: the session runs out.
            RefreshOutcome::Claims(_) => {
                let why = "the provider answered about somebody else";
                return Err(Refusal::new(Class::Internal, "BH-C220", why));
            }
        }
        Ok(Reply::Refreshed(self.knows(person)))
    }

    /// What a provider says of somebody who signs in counts for all that hangs on them, as when it is asked again; but
    /// no other machine's session goes on because somebody signed in at this one.
    pub(crate) fn hear(&mut self, claims: &Claims, entropy: &Entropy, now: Now, effects: &mut Effects) {
        if self.writable().is_ok() && claims.check().is_ok() {
            // What cannot be done now is done when the provider is asked again, or ends with its session.
            let _ = self.follow_claims(claims, Sessions::Stay, entropy, now, effects);
        }
    }

    /// Whether anything here hangs on this person, or is about to.
    pub(crate) fn knows(&self, person: &Person) -> bool {
        self.state.knows(person) || self.sign_ins.awaits(person)
    }

    fn follow_claims(
        &mut self,
        claims: &Claims,
        sessions: Sessions,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let person = claims.person();
        // What cannot be conferred, because of a seal or the issuer's limits, is not granted either.
        let grant = self.granted(claims).ok();
        // What a node has without an approval that is wanted now.
        let at_once = grant.as_ref().filter(|grant| grant.approval).map(|_| self.granted_at_once(claims));
        let administrator = self.config.rules.administrator(claims);
        let session_until = grant.as_ref().map(|grant| now.wall.plus(grant.session));
        // One node that cannot follow keeps no other from it, and its session is not prolonged.
        let (mut not_prolonged, mut undone) = (Vec::new(), None);
        for name in self.state.nodes_of(&person) {
            let serial = entropy.serial_of(&name);
            let Some(owner) = self.state.owner_of(&name) else { continue };
            let own = at_once.as_ref().filter(|_| !owner.approved).map_or(grant.as_ref(), Option::as_ref);
            let goes_on = sessions == Sessions::GoOn && !owner.denied;
            let until = if goes_on { session_until } else { Some(owner.session_until) };
            let until = until.filter(|_| own.is_some());
            let own = match sessions {
                Sessions::GoOn => own.cloned(),
                Sessions::Stay => {
                    own.map(|own| Grant { labels: in_both(&own.labels, &owner.granted), ..own.clone() })
                }
            };
            let followed = self.follow_grant(&name, own.as_ref(), until, serial, now, effects);
            if let Err(why) = &followed {
                undone = undone.or(self.end_session(&name, why, now, effects).err());
            }
            if followed.is_err() || own.is_none() || !goes_on {
                not_prolonged.push(name);
            }
        }
        let role = administrator.map(|grant| match sessions {
            Sessions::GoOn => grant.role,
            Sessions::Stay => {
                self.state.least_role(&person).map_or(grant.role, |least| least.min(grant.role))
            }
        });
        // Somebody may be refused as often as they like, and the journal has no room for that.
        if sessions == Sessions::GoOn || self.state.has_more(&person, role) {
            let change = Change::PersonRefreshed {
                person: person.clone(),
                name: display(&claims.name),
                session_until,
                administrator: role,
                not_prolonged,
            };
            self.commit(Actor::System, change, now, effects)?;
        }
        self.sign_ins.follow_administrator(&person, administrator);
        match &grant {
            Some(grant) => self.relabel_waiting_of(&person, &grant.labels, now, effects)?,
            None => self.end_waiting_of(&person, "its person may no longer enrol nodes", now, effects)?,
        }
        undone.map_or(Ok(()), Err)
    }

    /// Ends what a node has that cannot be certified as what it is to be: because of a seal, of labels that are too
    /// many, of a revocation list that is full. Every label goes that was granted, for which of them may stay cannot be
    /// said; the seal stays, for they may come back.
    fn end_session(
        &mut self,
        name: &NodeName,
        why: &Refusal,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let node = self.state.active_node(name)?;
        let Some(owner) = &node.owner else { return Ok(()) };
        let over = owner.session_until.max(node.certificate.not_after) <= now.wall;
        if over && owner.granted.is_empty() {
            return Ok(());
        }
        let labels = node.labels.only(|key| owner.granted.get(key.as_str()).is_none());
        let certificate = node.certificate.clone();
        let revocation = self.next_revocations(Stride::Next, now, |refused| refused.add_serial(&certificate));
        let (revocation, reason) = (revocation.ok(), why.message.clone());
        let change = Change::NodeSessionEnded { name: name.clone(), labels, revocation, reason };
        self.commit(Actor::System, change, now, effects)?;
        self.spread_labels(name, now, effects);
        Ok(())
    }

    /// Brings one node in line with what its person is granted now. Without any grant its certificate ends at once.
    fn follow_grant(
        &mut self,
        name: &NodeName,
        grant: Option<&Grant>,
        session_until: Option<Timestamp>,
        serial: Serial,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let node = self.state.active_node(name)?;
        let Some(owner) = node.owner.clone() else { return Ok(()) };
        let granted = grant.map(|grant| grant.labels.clone()).unwrap_or_default();
        let lifetime = match grant {
            Some(grant) => Some(grant.lifetime.unwrap_or(PERSON_CERTIFICATE_LIFETIME)),
            None => node.lifetime,
        };
        let ended = node.certificate.not_after <= now.wall && owner.session_until <= now.wall;
        let unchanged = granted == owner.granted && lifetime == node.lifetime;
        if unchanged && (grant.is_some() || ended) {
            return Ok(());
        }
        let (labels, seal) = regranted(node, &owner.granted, &granted)?;
        let session_until = session_until.unwrap_or(now.wall);
        let owner = Owner { session_until, granted, ..owner };
        let regrant = Regrant { owner, labels, seal, lifetime, device: None };
        self.regrant(Actor::System, name, regrant, serial, now, effects)
    }
}

fn in_both(one: &Labels, other: &Labels) -> Labels {
    one.only(|key| one.get(key.as_str()) == other.get(key.as_str()))
}
