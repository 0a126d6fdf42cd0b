//! Sign-ins: a machine asks, a person confirms in a browser, the machine polls (RFC 8628, with the coordinator as
//! authorization server). A sign-in lives for ten minutes and has one outcome; whoever comes second finds it over.
//! The person sees whose machine it is by its fingerprint, its address, and the code that both screens show (D7).
//!
//! Nothing here outlives the process but outcomes: a node, a node that waits for an administrator, or a key.

mod codes;
mod confirm;

pub(crate) use confirm::Confirmer;
pub use confirm::{Preview, SignInOutcome};

use crate::admins::AdminRole;
use crate::command::{Purpose, Road};
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::Actor;
use crate::newcomer::{Proved, wished_name};
use crate::person::{Claims, Person};
use crate::refusal::{Class, Refusal};
use crate::rules::AdminGrant;
use crate::tally::Tally;
use crate::waiting::{Network, Waiting};
use bulkhead_identity::{Fingerprint, NodeName, Now, Timestamp};
use bulkhead_protocol::signin::{DeviceAuthorization, POLL_INTERVAL_SECS, PollState, SIGN_IN_WINDOW_SECS};
use bulkhead_protocol::token::secret_hash;
use codes::UserCode;
use minicbor::bytes::ByteArray;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// How many sign-ins wait at once.
pub(crate) const MAX_SIGN_INS: usize = 1024;
/// How long a sign-in may take.
pub(crate) const SIGN_IN_WINDOW: Duration = Duration::from_secs(SIGN_IN_WINDOW_SECS);
/// Wrong user codes of one network in [`GUESS_WINDOW`]: whoever guesses is soon refused, whatever they ask next (RFC
/// 8628, section 5.1).
const MAX_GUESSES: u32 = 5;
/// See [`MAX_GUESSES`].
const GUESS_WINDOW: Duration = Duration::from_secs(60);
/// Networks that are counted at once.
const MAX_GUESSERS: usize = 16_384;
/// How long its machine may still ask how it ended.
const OUTCOME_WINDOW: Duration = Duration::from_secs(60);
/// Machines that can be told why they wait no longer.
const MAX_ENDED: usize = 1024;

/// What somebody signs in for, as the page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInPurpose {
    /// A machine is to be a node.
    Enrol,
    /// An administrator's session.
    Login,
}

/// What the page shows of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInView {
    /// What for.
    pub purpose: SignInPurpose,
    /// `XXXX-XXXX`.
    pub user_code: String,
    /// The name that the machine wants; `None` for a session.
    pub device: Option<NodeName>,
    /// Of the machine's identity key; `None` for a session.
    pub fingerprint: Option<Fingerprint>,
    /// The address that asks.
    pub source: IpAddr,
    /// To be compared with the machine's screen.
    pub match_code: String,
    /// When it is over.
    pub expires: Timestamp,
}

/// All sign-ins, by user code.
#[derive(Default)]
pub(crate) struct SignIns {
    open: Waiting<SignIn, MAX_SIGN_INS>,
    guesses: Tally<Network, MAX_GUESSES, { GUESS_WINDOW.as_secs() }, MAX_GUESSERS>,
    /// Why machines wait no longer, by the hash of their device code.
    ended: BTreeMap<[u8; 32], (Refusal, Duration)>,
}

struct SignIn {
    /// SHA-256 of the device code.
    device: [u8; 32],
    match_code: String,
    source: IpAddr,
    began: Duration,
    road: Road,
    wanted: Wanted,
    stage: Stage,
}

#[allow(clippy::large_enum_variant)] // Most are machines.
enum Wanted {
    Machine { name: NodeName, proved: Proved },
    Session,
}

enum Stage {
    /// Nobody confirmed it yet.
    Open,
    /// An administrator did; the key is made when it is fetched.
    Confirmed(Login),
    Refused(Refusal),
}

/// An administrator who may have a key.
#[derive(Clone)]
struct Login {
    person: Person,
    user: String,
    role: AdminRole,
    session: Duration,
}

impl SignIns {
    /// Whether an administrator's key is ready for this person and not fetched yet.
    pub(crate) fn awaits(&self, person: &Person) -> bool {
        self.open.iter().any(|(_, sign_in)| match &sign_in.stage {
            Stage::Confirmed(login) => login.person == *person,
            Stage::Open | Stage::Refused(_) => false,
        })
    }

    /// An administrator whose key is not fetched yet may do this much from now on; `None`: nothing.
    pub(crate) fn follow_administrator(&mut self, person: &Person, grant: Option<AdminGrant>) {
        for (_, sign_in) in self.open.iter_mut() {
            let Stage::Confirmed(login) = &mut sign_in.stage else { continue };
            if login.person != *person {
                continue;
            }
            match grant {
                Some(grant) => (login.role, login.session) = (grant.role, grant.session),
                None => sign_in.stage = Stage::Refused(no_longer(&login.user)),
            }
        }
    }
}

impl SignIn {
    fn is_open(&self, now: Now) -> bool {
        let in_time = now.mono.saturating_sub(self.began) < SIGN_IN_WINDOW;
        match self.stage {
            Stage::Open => in_time,
            Stage::Confirmed(_) | Stage::Refused(_) => false,
        }
    }

    fn is_forgotten(&self, now: Now) -> bool {
        now.mono.saturating_sub(self.began) >= SIGN_IN_WINDOW + OUTCOME_WINDOW
    }

    /// What asks for it, for the audit log.
    fn whose(&self) -> String {
        let source = self.source;
        match &self.wanted {
            Wanted::Machine { name, proved } => {
                format!("machine {name} ({}) at {source}", proved.identity_key.fingerprint())
            }
            Wanted::Session => format!("the administrator's session for {source}"),
        }
    }

    fn view(&self, code: &UserCode, now: Now) -> SignInView {
        let (purpose, device, fingerprint) = match &self.wanted {
            Wanted::Machine { name, proved } => {
                (SignInPurpose::Enrol, Some(name.clone()), Some(proved.identity_key.fingerprint()))
            }
            Wanted::Session => (SignInPurpose::Login, None, None),
        };
        let left = (self.began + SIGN_IN_WINDOW).saturating_sub(now.mono);
        SignInView {
            purpose,
            user_code: code.shown(),
            device,
            fingerprint,
            source: self.source,
            match_code: self.match_code.clone(),
            expires: now.wall.plus(left),
        }
    }
}

impl Coordinator {
    pub(crate) fn sign_in_begin(
        &mut self,
        source: IpAddr,
        purpose: Purpose,
        road: Road,
        entropy: &Entropy,
        now: Now,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let web = match road {
            Road::Page => self.config.web.clone().ok_or_else(nowhere)?,
            // Whoever asked knows the provider's page, which replaces ours.
            Road::ProviderDevice => String::new(),
        };
        let wanted = match purpose {
            Purpose::Enrol { enrolment, certificate_request, name } => {
                let proved = Proved::answer(self.take_challenge(&enrolment)?, &certificate_request, now)?;
                let name = self.wanted_name(&proved, name.as_deref())?;
                Wanted::Machine { name, proved }
            }
            Purpose::Login => Wanted::Session,
        };
        self.expire_sign_ins(now);
        let code = UserCode::draw(entropy, |code| self.sign_ins.open.get(code.as_str()).is_some());
        let (device_code, match_code) = (entropy.derive("device code"), codes::match_code(entropy));
        let sign_in = SignIn {
            device: secret_hash(&*device_code),
            match_code: match_code.clone(),
            source: source.to_canonical(),
            began: now.mono,
            road,
            wanted,
            stage: Stage::Open,
        };
        self.sign_ins.open.insert(code.as_str().to_owned(), source, sign_in);
        Ok(Reply::SignInBegun(DeviceAuthorization {
            device_code: device_code.to_vec(),
            user_code: code.shown(),
            verification_uri: format!("{web}/device"),
            verification_uri_complete: format!("{web}/device?code={}", code.shown()),
            match_code: (road == Road::Page).then_some(match_code),
            expires_in: SIGN_IN_WINDOW_SECS,
            interval: POLL_INTERVAL_SECS,
        }))
    }

    /// A node that signs in again keeps its name; a newcomer's is its wish. Whether that is free is said to whoever may
    /// enrol it: a stranger could ask for name after name (D2).
    fn wanted_name(&self, proved: &Proved, wish: Option<&str>) -> Result<NodeName, Refusal> {
        let Some(node) = self.known_machine(proved) else { return wished_name(wish) };
        if wish.is_some_and(|wish| wish != node.name.as_str()) {
            let message = format!("this machine is node {} already", node.name);
            return Err(Refusal::new(Class::Conflict, "BH-C105", message).help("leave out the name"));
        }
        Ok(node.name.clone())
    }

    /// Whoever mistypes a code is nobody's business; whoever is refused for guessing is.
    pub(crate) fn sign_in_look(
        &mut self,
        typed: &str,
        source: IpAddr,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let found = self.find_sign_in(typed, source, now);
        if let Err(refusal) = &found
            && refusal.class == Class::TooMany
        {
            self.refused_step(Actor::Stranger, "look", refusal, now, effects);
        }
        let code = found?;
        let sign_in = self.sign_ins.open.get(code.as_str()).ok_or_else(over)?;
        Ok(Reply::SignIn(sign_in.view(&code, now)))
    }

    /// Somebody who was shown another's machine as theirs has been deceived, or has mistyped: either is written down.
    pub(crate) fn sign_in_refuse(
        &mut self,
        typed: &str,
        claims: Option<&Claims>,
        source: IpAddr,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let code = self.find_sign_in(typed, source, now)?;
        let whose = self.sign_ins.open.get(code.as_str()).map(SignIn::whose).unwrap_or_default();
        let (actor, told, written) = match claims {
            Some(claims) => (
                Actor::person(claims),
                "the person who looked at it refused it",
                format!("{whose} is not theirs, the person says"),
            ),
            None => (
                Actor::Stranger,
                "the sign-in at the provider was refused, or nobody came",
                format!("nobody signed in for {whose} at the provider"),
            ),
        };
        let refusal = Refusal::new(Class::Forbidden, "BH-C204", told);
        let written = Refusal { message: written, ..refusal.clone() };
        self.refused_step(actor, "confirm", &written, now, effects);
        self.end_sign_in(&code, refusal);
        Ok(Reply::Done)
    }

    /// The code of an open sign-in. Unknown, wrong, spent and over are one answer, and each counts as a guess.
    fn find_sign_in(&mut self, typed: &str, source: IpAddr, now: Now) -> Result<UserCode, Refusal> {
        let network = Network::from(source);
        if !self.sign_ins.guesses.admits(&network, now) {
            return Err(Refusal::new(Class::TooMany, "BH-C203", "too many wrong codes from this network")
                .help("wait a minute and type the code again"));
        }
        let open = |code: &UserCode| {
            self.sign_ins.open.get(code.as_str()).is_some_and(|sign_in| sign_in.is_open(now))
        };
        let code = UserCode::read(typed).filter(open);
        if code.is_none() {
            self.sign_ins.guesses.count(network, now);
        }
        code.ok_or_else(over)
    }

    fn end_sign_in(&mut self, code: &UserCode, refusal: Refusal) {
        if let Some(sign_in) = self.sign_ins.open.get_mut(code.as_str()) {
            sign_in.stage = Stage::Refused(refusal);
        }
    }

    pub(crate) fn sign_in_poll(
        &mut self,
        device_code: &[u8],
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let device = secret_hash(device_code);
        let state = match self.polled(&device) {
            Some(code) => self.stage_of(&code, entropy, now, effects)?,
            None => self.outcome_of(&device)?,
        };
        Ok(Reply::SignInState(state))
    }

    /// Looks at every sign-in, whether it matched or not.
    fn polled(&self, device: &[u8; 32]) -> Option<String> {
        let mut found = None;
        for (code, sign_in) in self.sign_ins.open.iter() {
            if bool::from(sign_in.device.ct_eq(device)) {
                found = Some(code.to_owned());
            }
        }
        found
    }

    fn stage_of(
        &mut self,
        code: &str,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<PollState, Refusal> {
        let Some(sign_in) = self.sign_ins.open.get(code) else { return Ok(refused(&over())) };
        match &sign_in.stage {
            Stage::Open if sign_in.is_open(now) => Ok(PollState::Waiting),
            Stage::Open => Ok(refused(&over())),
            Stage::Refused(why) => Ok(refused(why)),
            Stage::Confirmed(login) => {
                let login = login.clone();
                let session = self.open_person_session(login, entropy, now, effects)?;
                self.sign_ins.open.take(code);
                Ok(PollState::Session(session))
            }
        }
    }

    /// What became of a machine whose sign-in was confirmed. What is looked up is the hash of 256 random bits: how long
    /// that takes tells nothing about them.
    fn outcome_of(&self, device: &[u8; 32]) -> Result<PollState, Refusal> {
        if let Some((why, _)) = self.sign_ins.ended.get(device) {
            return Ok(refused(why));
        }
        let Some(name) = self.state.devices.get(&ByteArray::from(*device)) else {
            return Ok(refused(&over()));
        };
        if self.state.pending.contains_key(name) {
            return Ok(PollState::Approval { name: name.to_string() });
        }
        // Revoked before its machine has asked.
        if let Err(why) = self.state.active_node(name) {
            return Ok(refused(&why));
        }
        self.enrolled(name).map(PollState::Enrolled)
    }

    /// Keeps for a machine why it waits no longer.
    pub(crate) fn remember_end(&mut self, device: [u8; 32], why: Refusal, now: Now) {
        if self.sign_ins.ended.len() >= MAX_ENDED {
            let oldest = self.sign_ins.ended.iter().min_by_key(|(_, (_, since))| *since);
            let oldest = oldest.map(|(device, _)| *device);
            oldest.and_then(|device| self.sign_ins.ended.remove(&device));
        }
        self.sign_ins.ended.insert(device, (why, now.mono));
    }

    pub(crate) fn expire_sign_ins(&mut self, now: Now) {
        self.sign_ins.open.expire(|sign_in| sign_in.is_forgotten(now));
        self.sign_ins.guesses.expire(now);
    }
}

fn refused(why: &Refusal) -> PollState {
    PollState::Refused(why.api_error())
}

fn no_longer(user: &str) -> Refusal {
    Refusal::new(Class::Forbidden, "BH-C205", format!("{user} is no administrator any more"))
        .help("the provider said so since it was confirmed; sign in again to hear more")
}

fn nowhere() -> Refusal {
    Refusal::new(Class::NotFound, "BH-C201", "nobody signs in here: the coordinator has no pages for it")
        .help("ask for a join token, or have `[web]` and a `[[provider]]` configured at the coordinator")
}

fn over() -> Refusal {
    Refusal::new(Class::NotFound, "BH-C202", "this code is not known here: mistyped, used, or too old")
        .help("look at the code again, or begin again at the machine")
}
