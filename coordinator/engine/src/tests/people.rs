//! People of the provider `acme` and their devices, for the tests of sign-ins, approval and sessions.

use super::scene::{Machine, Scene, config};
use crate::{
    AdminCall, AdminRole, AdminRule, Claims, Command, Config, EnrolRule, Preview, Purpose, RefreshOutcome,
    Refusal, Reply, RequestId, Road, Rules, SignInOutcome, SignInView, Who,
};
use bulkhead_identity::{CertificateRequest, Chain, IdentityKey, Labels, TunnelKey};
use bulkhead_protocol::signin::{DeviceAuthorization, PollState};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use zeroize::Zeroizing;

/// Where people look at pages from.
pub(super) const BROWSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 20));
pub(super) const HOUR: Duration = Duration::from_secs(3600);

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn groups(provider: &str, groups: &[&str]) -> Who {
    Who { provider: provider.to_owned(), groups: set(groups), ..Who::default() }
}

fn enrol(who: Who, labels: &str) -> EnrolRule {
    EnrolRule { who, labels: Labels::parse(labels).unwrap(), ..EnrolRule::default() }
}

/// Engineers enrol at once, contractors after an approval, the pipeline of one repository by its token.
pub(super) fn staffed() -> Config {
    let repository = BTreeMap::from([("repository".to_owned(), set(&["acme/app"]))]);
    let ci = Who { provider: "ci".to_owned(), claims: repository, ..Who::default() };
    let contractors = EnrolRule {
        approval: true,
        lifetime: Some(HOUR),
        session: Some(2 * HOUR),
        ..enrol(groups("acme", &["contractors"]), "team=ext")
    };
    let netops =
        AdminRule { who: groups("acme", &["netops"]), role: AdminRole::Operator, session: Some(HOUR) };
    let enrol = vec![
        enrol(groups("acme", &["engineering"]), "team=eng"),
        enrol(groups("acme", &["databases"]), "role=db"),
        contractors,
        enrol(ci, "role=web"),
    ];
    let rules = Rules { enrol, administrators: vec![netops] };
    Config { rules, web: Some("https://bulkhead.acme.example:8444".to_owned()), ..config() }
}

pub(super) fn person(subject: &str, groups: &[&str]) -> Claims {
    Claims {
        provider: "acme".to_owned(),
        issuer: "https://login.acme.example".to_owned(),
        subject: subject.to_owned(),
        name: "Ada".to_owned(),
        groups: set(groups),
        other: BTreeMap::from([("email".to_owned(), vec!["ada@acme.example".to_owned()])]),
    }
}

/// A machine with fresh keys, no node yet.
pub(super) struct Device {
    pub(super) identity: IdentityKey,
    pub(super) tunnel: TunnelKey,
}

impl Scene {
    pub(super) fn staffed() -> Self {
        Self::of(staffed)
    }

    pub(super) fn device(&mut self) -> Device {
        let (identity, tunnel) = self.keys();
        Device { identity, tunnel }
    }

    fn answer_to(&mut self, command: Command) -> Result<Reply, Refusal> {
        match self.handle(command).unwrap() {
            Reply::Refused(refusal) => Err(refusal),
            reply => Ok(reply),
        }
    }

    pub(super) fn request_of(&mut self, device: &Device) -> (String, Box<CertificateRequest>) {
        let (enrolment, challenge, key) = self.begin();
        (enrolment, Box::new(CertificateRequest::create(&device.identity, &device.tunnel, &challenge, &key)))
    }

    pub(super) fn sign_in(
        &mut self,
        device: &Device,
        wish: Option<&str>,
    ) -> Result<DeviceAuthorization, Refusal> {
        let purpose = self.joining(device, wish);
        self.sign_in_for(purpose)
    }

    pub(super) fn joining(&mut self, device: &Device, wish: Option<&str>) -> Purpose {
        let (enrolment, certificate_request) = self.request_of(device);
        Purpose::Enrol { enrolment, certificate_request, name: wish.map(str::to_owned) }
    }

    pub(super) fn sign_in_for(&mut self, purpose: Purpose) -> Result<DeviceAuthorization, Refusal> {
        self.sign_in_by(Road::Page, purpose)
    }

    pub(super) fn sign_in_by(
        &mut self,
        road: Road,
        purpose: Purpose,
    ) -> Result<DeviceAuthorization, Refusal> {
        let (request, source, entropy) = (RequestId(1), "192.0.2.9".parse().unwrap(), self.entropy());
        match self.answer_to(Command::SignInBegin { request, source, purpose, road, entropy })? {
            Reply::SignInBegun(begun) => Ok(begun),
            _ => panic!("another reply"),
        }
    }

    pub(super) fn look(&mut self, typed: &str, source: IpAddr) -> Result<SignInView, Refusal> {
        let command = Command::SignInLook { request: RequestId(1), user_code: typed.to_owned(), source };
        match self.answer_to(command)? {
            Reply::SignIn(view) => Ok(view),
            _ => panic!("another reply"),
        }
    }

    pub(super) fn preview(&mut self, typed: &str, claims: &Claims) -> Result<Preview, Refusal> {
        let (user_code, claims, entropy) = (typed.to_owned(), Box::new(claims.clone()), self.entropy());
        let (request, source) = (RequestId(1), BROWSER);
        match self.answer_to(Command::SignInPreview { request, user_code, claims, source, entropy })? {
            Reply::SignInPreview(preview) => Ok(preview),
            _ => panic!("another reply"),
        }
    }

    pub(super) fn confirm(&mut self, typed: &str, claims: &Claims) -> Result<SignInOutcome, Refusal> {
        self.confirm_by(Road::Page, typed, claims)
    }

    pub(super) fn confirm_by(
        &mut self,
        road: Road,
        typed: &str,
        claims: &Claims,
    ) -> Result<SignInOutcome, Refusal> {
        let (user_code, claims, entropy) = (typed.to_owned(), Box::new(claims.clone()), self.entropy());
        let (request, source) = (RequestId(1), BROWSER);
        match self.answer_to(Command::SignInConfirm { request, user_code, claims, road, source, entropy })? {
            Reply::SignInDone(outcome) => Ok(outcome),
            _ => panic!("another reply"),
        }
    }

    pub(super) fn poll(&mut self, device_code: &[u8]) -> PollState {
        let (device_code, entropy) = (Zeroizing::new(device_code.to_vec()), self.entropy());
        let command = Command::SignInPoll { request: RequestId(1), device_code, source: None, entropy };
        match self.answer_to(command).unwrap() {
            Reply::SignInState(state) => state,
            _ => panic!("another reply"),
        }
    }

    /// A node of this person, enrolled at once.
    pub(super) fn node_of(&mut self, claims: &Claims, wish: &str) -> Machine {
        let device = self.device();
        let begun = self.sign_in(&device, Some(wish)).ok().unwrap();
        self.confirm(&begun.user_code, claims).unwrap();
        self.enrolled(device, &begun)
    }

    /// A node of this person, after an approval.
    pub(super) fn approved_node_of(&mut self, claims: &Claims, wish: &str) -> Machine {
        let device = self.device();
        let begun = self.sign_in(&device, Some(wish)).ok().unwrap();
        self.confirm(&begun.user_code, claims).unwrap();
        self.admin(AdminCall::NodeApprove(super::scene::name(wish))).ok().unwrap();
        self.enrolled(device, &begun)
    }

    /// The person signs in at a machine that is a node.
    pub(super) fn sign_in_again(
        &mut self,
        machine: &Machine,
        claims: &Claims,
    ) -> Result<SignInOutcome, Refusal> {
        let (enrolment, challenge, key) = self.begin();
        let request = CertificateRequest::create(&machine.identity, &machine.tunnel, &challenge, &key);
        let certificate_request = Box::new(request);
        let begun = self.sign_in_for(Purpose::Enrol { enrolment, certificate_request, name: None })?;
        self.confirm(&begun.user_code, claims)
    }

    fn enrolled(&mut self, device: Device, begun: &DeviceAuthorization) -> Machine {
        let PollState::Enrolled(enrolled) = self.poll(&begun.device_code) else { panic!("not enrolled") };
        let Device { identity, tunnel } = device;
        let (name, chain) = (super::scene::name(&enrolled.name), Chain::decode(&enrolled.chain).unwrap());
        Machine { identity, tunnel, name, chain }
    }

    /// Whether anything hangs on this person still; or why not.
    pub(super) fn refreshed(&mut self, subject: &str, outcome: RefreshOutcome) -> Result<bool, Refusal> {
        let issuer = "https://login.acme.example".to_owned();
        let (subject, entropy) = (subject.to_owned(), self.entropy());
        let request = RequestId(1);
        match self.handle(Command::Refreshed { request, issuer, subject, outcome, entropy }) {
            Some(Reply::Refreshed(known)) => Ok(known),
            Some(Reply::Refused(refusal)) => Err(refusal),
            _ => panic!("another reply"),
        }
    }

    /// What the registry says of a machine.
    pub(super) fn record(&self, machine: &Machine) -> &crate::NodeRecord {
        &self.coordinator.state().nodes[&machine.name]
    }

    pub(super) fn labels_of(&self, machine: &Machine) -> String {
        self.record(machine).labels.to_string()
    }
}
