//! A person confirms a sign-in, or looks at what that would do. Who may do what follows from the rules and the claims
//! alone; the page that asks first and the confirmation come to the same decision by the same function.

use super::{Login, SignIn, Stage, Wanted, codes::UserCode};
use crate::admins::AdminRole;
use crate::command::Road;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::keys::{ApiKey, MAX_API_KEYS};
use crate::newcomer::{Newcomer, Proved};
use crate::person::{Claims, Owner, Person, who};
use crate::refusal::{Class, Refusal};
use crate::registry::NodeRecord;
use crate::rules::{AdminGrant, Grant, PERSON_CERTIFICATE_LIFETIME};
use crate::seal::refuse_sealed;
use bulkhead_identity::{LabelKey, Labels, NodeName, Now};
use bulkhead_protocol::admin::Session;
use bulkhead_protocol::token::secret_hash;
use minicbor::bytes::ByteArray;
use std::net::IpAddr;
use std::time::Duration;

/// Most nodes of one person.
pub(crate) const MAX_NODES_PER_PERSON: usize = 100;
/// Most sessions that one administrator can have at a time.
pub(crate) const MAX_SESSIONS_PER_PERSON: usize = 20;

/// What confirming would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preview {
    /// The machine becomes this person's node.
    Enrol {
        /// Its name.
        name: NodeName,
        /// What it will be.
        labels: Labels,
        /// Of its certificates.
        lifetime: Duration,
        /// Until the next sign-in.
        session: Duration,
        /// Whether an administrator has to approve first.
        approval: bool,
        /// It is a node already: whose it is and what it is changes, or is confirmed.
        again: bool,
    },
    /// Whoever waits at the other screen becomes this administrator.
    Login {
        /// As the audit log will call them.
        user: String,
        /// What they may do.
        role: AdminRole,
        /// For how long.
        session: Duration,
    },
}

/// What confirming did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInOutcome {
    /// The machine is this person's node.
    Enrolled {
        /// Its name.
        name: NodeName,
        /// What it is.
        labels: Labels,
    },
    /// It waits for an administrator.
    Pending {
        /// The name that it will have.
        name: NodeName,
    },
    /// The administrator's key is ready to be fetched.
    LoggedIn {
        /// As the audit log calls them.
        user: String,
        /// What they may do.
        role: AdminRole,
    },
}

/// What is to happen with a sign-in, decided and not done.
#[allow(clippy::large_enum_variant)] // One at a time.
enum Decision {
    /// A new node, at once or after an approval.
    Join {
        newcomer: Newcomer,
        session: Duration,
        approval: bool,
    },
    /// A node whose owner signs in again, or another person.
    Again {
        name: NodeName,
        owner: Owner,
        lifetime: Duration,
        session: Duration,
    },
    Login {
        user: String,
        grant: AdminGrant,
    },
}

/// Who confirms, how, and from where.
pub(crate) struct Confirmer<'a> {
    pub(crate) claims: &'a Claims,
    pub(crate) road: Road,
    pub(crate) source: IpAddr,
}

impl Coordinator {
    /// The active node that has exactly these keys.
    pub(crate) fn known_machine(&self, proved: &Proved) -> Option<&NodeRecord> {
        let same = |node: &&NodeRecord| {
            node.identity_key == proved.identity_key && node.tunnel_key == proved.tunnel_key
        };
        self.state.nodes.values().filter(|node| node.is_active()).find(same)
    }

    pub(crate) fn sign_in_preview(
        &mut self,
        typed: &str,
        confirmer: &Confirmer<'_>,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let found = self.find_sign_in(typed, confirmer.source, now);
        let preview = found.and_then(|code| self.preview(&code, confirmer, now));
        if let Err(refusal) = &preview {
            self.refused_step(Actor::person(confirmer.claims), "preview", refusal, now, effects);
            // Whoever is refused here confirms nothing: what the provider said of them would be heard nowhere.
            if self.knows(&confirmer.claims.person()) {
                self.hear(confirmer.claims, entropy, now, effects);
            }
        }
        preview.map(Reply::SignInPreview)
    }

    fn preview(&self, code: &UserCode, confirmer: &Confirmer<'_>, now: Now) -> Result<Preview, Refusal> {
        let sign_in = self.sign_ins.open.get(code.as_str()).ok_or_else(super::over)?;
        Ok(match self.decide(sign_in, confirmer, now)? {
            Decision::Join { newcomer, session, approval } => Preview::Enrol {
                name: newcomer.name,
                labels: newcomer.labels,
                lifetime: newcomer.lifetime.unwrap_or(self.config.certificate_lifetime),
                session,
                approval,
                again: false,
            },
            Decision::Again { name, owner, lifetime, session } => Preview::Enrol {
                name,
                labels: owner.granted,
                lifetime,
                session,
                approval: false,
                again: true,
            },
            Decision::Login { user, grant } => {
                Preview::Login { user, role: grant.role, session: grant.session }
            }
        })
    }

    /// Confirms. A refusal of this person ends the sign-in, and its machine is told why; one of ours does not.
    pub(crate) fn sign_in_confirm(
        &mut self,
        typed: &str,
        confirmer: &Confirmer<'_>,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let known = self.knows(&confirmer.claims.person());
        let outcome = self.confirm_or_end(typed, confirmer, entropy, now, effects);
        if let Err(refusal) = &outcome {
            self.refused_step(Actor::person(confirmer.claims), "confirm", refusal, now, effects);
        }
        if known {
            self.hear(confirmer.claims, entropy, now, effects);
        }
        outcome.map(Reply::SignInDone)
    }

    fn confirm_or_end(
        &mut self,
        typed: &str,
        confirmer: &Confirmer<'_>,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<SignInOutcome, Refusal> {
        self.writable()?;
        let code = self.find_sign_in(typed, confirmer.source, now)?;
        let outcome = self.confirm(&code, confirmer, entropy, now, effects);
        if let Err(refusal) = &outcome
            && matches!(refusal.class, Class::Forbidden | Class::Conflict)
        {
            self.end_sign_in(&code, refusal.clone());
        }
        outcome
    }

    fn confirm(
        &mut self,
        code: &UserCode,
        confirmer: &Confirmer<'_>,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<SignInOutcome, Refusal> {
        let sign_in = self.sign_ins.open.get(code.as_str()).ok_or_else(super::over)?;
        let (device, source) = (ByteArray::from(sign_in.device), sign_in.source);
        let claims = confirmer.claims;
        let (actor, person) = (Actor::person(claims), claims.person());
        let outcome = match self.decide(sign_in, confirmer, now)? {
            Decision::Login { user, grant } => {
                let (role, session) = (grant.role, grant.session);
                if let Some(sign_in) = self.sign_ins.open.get_mut(code.as_str()) {
                    sign_in.stage = Stage::Confirmed(Login { person, user: user.clone(), role, session });
                }
                return Ok(SignInOutcome::LoggedIn { user, role });
            }
            Decision::Join { newcomer, approval: true, .. } => {
                let asked = crate::pending::Asked { road: confirmer.road, source, device };
                let name = self.put_off(actor, newcomer, &asked, now, effects)?;
                SignInOutcome::Pending { name }
            }
            Decision::Join { newcomer, .. } => {
                let node = self.new_node(newcomer, entropy.serial(), now)?;
                let (name, labels) = (node.name.clone(), node.labels.clone());
                self.commit(actor, Change::PersonEnrolled { node: Box::new(node), device }, now, effects)?;
                self.admit(&name, now);
                self.flush_due_maps(now, effects);
                SignInOutcome::Enrolled { name, labels }
            }
            Decision::Again { name, owner, lifetime, .. } => {
                self.sign_in_again(actor, &name, (owner, lifetime, device), entropy, now, effects)?;
                let labels = self.state.node(&name)?.labels.clone();
                SignInOutcome::Enrolled { name, labels }
            }
        };
        self.sign_ins.open.take(code.as_str());
        Ok(outcome)
    }

    fn decide(&self, sign_in: &SignIn, confirmer: &Confirmer<'_>, now: Now) -> Result<Decision, Refusal> {
        let claims = confirmer.claims;
        claims.check()?;
        if sign_in.road != confirmer.road {
            return Err(super::over());
        }
        match &sign_in.wanted {
            Wanted::Session => self.decide_login(confirmer),
            Wanted::Machine { name, proved } => match self.known_machine(proved) {
                Some(node) => self.decide_again(node, confirmer, now),
                None => self.decide_join((name, *proved), confirmer, self.granted(claims)?, now),
            },
        }
    }

    fn decide_login(&self, confirmer: &Confirmer<'_>) -> Result<Decision, Refusal> {
        let claims = confirmer.claims;
        let user = who(&claims.provider, &claims.subject, &claims.name);
        match confirmer.road {
            Road::Page => {}
            // Whoever is talked into typing a code at the provider would hand out their own rights (D7).
            Road::ProviderDevice => {
                let why = "administrators confirm on the coordinator's page";
                return Err(Refusal::new(Class::Forbidden, "BH-C206", why));
            }
        }
        let Some(grant) = self.config.rules.administrator(claims) else {
            return Err(no_rule(&user, "is no administrator", "[[administrator]]"));
        };
        Ok(Decision::Login { user, grant })
    }

    fn decide_join(
        &self,
        (name, proved): (&NodeName, Proved),
        confirmer: &Confirmer<'_>,
        grant: Grant,
        now: Now,
    ) -> Result<Decision, Refusal> {
        self.refuse_clash(&proved.unique(name))?;
        self.may_have_one_more(&confirmer.claims.person())?;
        let unseen = confirmer.road == Road::ProviderDevice;
        let (session, approval) = (grant.session, grant.approval || unseen || self.has_rights(name));
        let owner = Owner::new(confirmer.claims, now.wall.plus(session), grant.labels.clone());
        let lifetime = Some(grant.lifetime.unwrap_or(PERSON_CERTIFICATE_LIFETIME));
        let newcomer = Newcomer {
            name: name.clone(),
            proved,
            labels: grant.labels,
            owner: Some(owner),
            lifetime,
            workload: None,
        };
        Ok(Decision::Join { newcomer, session, approval })
    }

    /// Refuses a person who has as many nodes as one may have.
    pub(crate) fn may_have_one_more(&self, person: &Person) -> Result<(), Refusal> {
        let nodes = self.state.nodes_of(person).len();
        if nodes < MAX_NODES_PER_PERSON {
            return Ok(());
        }
        let message = format!("this person has {nodes} nodes already (MAX_NODES_PER_PERSON)");
        Err(Refusal::new(Class::Forbidden, "BH-C207", message).help("have those revoked that are not needed"))
    }

    /// Whoever had it approved once need not again. Who did not has what nobody has to approve; for more, and when it
    /// was another's, that machine begins anew (D10).
    fn decide_again(
        &self,
        node: &NodeRecord,
        confirmer: &Confirmer<'_>,
        now: Now,
    ) -> Result<Decision, Refusal> {
        let owner = node.owner.as_ref().filter(|owner| owner.person == confirmer.claims.person());
        let approved = owner.is_some_and(|owner| owner.approved);
        if owner.is_none() {
            self.may_have_one_more(&confirmer.claims.person())?;
        }
        let mut grant = self.granted(confirmer.claims)?;
        if grant.approval && !approved && owner.is_some() {
            grant = self.granted_at_once(confirmer.claims).unwrap_or(grant);
        }
        let unseen = confirmer.road == Road::ProviderDevice;
        let taken_over = owner.is_none() && self.has_rights(&node.name);
        if !approved && (grant.approval || unseen || taken_over) {
            let message = format!(
                "nobody approved that node {} is this person's, and an administrator has to",
                node.name
            );
            return Err(Refusal::new(Class::Conflict, "BH-C208", message)
                .help("`bulkhead leave` on this machine, then sign in again"));
        }
        let owner =
            Owner { approved, ..Owner::new(confirmer.claims, now.wall.plus(grant.session), grant.labels) };
        let lifetime = grant.lifetime.unwrap_or(PERSON_CERTIFICATE_LIFETIME);
        Ok(Decision::Again { name: node.name.clone(), owner, lifetime, session: grant.session })
    }

    /// What the rules grant these claims, as far as a coordinator may confer it.
    pub(crate) fn granted(&self, claims: &Claims) -> Result<Grant, Refusal> {
        let Some(grant) = self.config.rules.enrolment(claims) else {
            let user = who(&claims.provider, &claims.subject, &claims.name);
            return Err(no_rule(&user, "may not enrol a node", "[[enrol]]"));
        };
        self.conferrable(grant)
    }

    /// What of it nobody has to approve.
    pub(crate) fn granted_at_once(&self, claims: &Claims) -> Option<Grant> {
        self.conferrable(self.config.rules.enrolment_at_once(claims)?).ok()
    }

    fn conferrable(&self, grant: Grant) -> Result<Grant, Refusal> {
        refuse_sealed(grant.labels.iter().map(|(key, _)| key.as_str()), self.config.trust.document())?;
        let vouched = |key: &LabelKey| {
            self.config.issuer.limits().label_keys.as_ref().is_none_or(|allowed| allowed.contains(key))
        };
        if let Some((key, _)) = grant.labels.iter().find(|(key, _)| !vouched(key)) {
            let message = format!("the issuing CA may not vouch for label {key}, which the rules grant");
            return Err(Refusal::new(Class::Forbidden, "BH-C209", message));
        }
        Ok(grant)
    }

    /// Makes the key of an administrator who signed in, when it is fetched: until then nothing has to keep it.
    pub(super) fn open_person_session(
        &mut self,
        login: Login,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Session, Refusal> {
        self.writable()?;
        let Login { person, user, role, session } = login;
        let own = self.living_keys(now).filter(|key| key.person.as_ref() == Some(&person)).count();
        if own >= MAX_SESSIONS_PER_PERSON || self.living_keys(now).count() >= MAX_API_KEYS {
            let message = format!(
                "there are too many sessions already: at most {MAX_SESSIONS_PER_PERSON} of one person \
                 (MAX_SESSIONS_PER_PERSON), {MAX_API_KEYS} keys in all (MAX_API_KEYS)"
            );
            return Err(Refusal::new(Class::TooMany, "BH-C210", message).help("end some: bulkheadctl logout"));
        }
        let secret = entropy.derive("api key");
        let key = ApiKey {
            id: entropy.id("api key id", 8),
            hash: secret_hash(&*secret),
            name: user.clone(),
            role,
            created: now.wall,
            expires: now.wall.plus(session),
            created_by: Actor::Admin { name: user.clone() }.to_string(),
            last_used: None,
            person: Some(person),
        };
        let expires = key.expires;
        let change = Change::AdministratorSignedIn { key };
        self.commit(Actor::Admin { name: user.clone() }, change, now, effects)?;
        Ok(Session { user, role: role.as_str().to_owned(), key: secret.to_vec(), expires })
    }
}

fn no_rule(user: &str, what: &str, section: &str) -> Refusal {
    Refusal::new(Class::Forbidden, "BH-C205", format!("{user} {what}: no rule matches")).help(format!(
        "an administrator can look why: bulkhead-coordinator check-config with these claims, and {section} in coordinator.toml"
    ))
}
