//! Thousands of nodes in a coordinator's journal: enrolled by its own engine in this process, with real keys and
//! certificates, and synced once at the end. They never connect; to everyone else they are permitted peers, and belong
//! to the classes of [`crate::mesh::permissive`] in turn.

use std::net::Ipv4Addr;
use std::path::Path;

use bulkhead_coordinator::boot;
use bulkhead_coordinator::clock::{Clock, entropy, random};
use bulkhead_coordinator::config::Partial;
use bulkhead_coordinator::driver::entry;
use bulkhead_coordinator::journal::{FileJournal, Journal, Options};
use bulkhead_coordinator::state_dir::{Lock, StateDir};
use bulkhead_coordinator_engine::{AdminCall, Command, Coordinator, Credential, Effect, Reply, RequestId};
use bulkhead_identity::{CertificateRequest, Challenge, ChallengeKey, IdentityKey, Labels, TunnelKey};
use bulkhead_protocol::admin::CreateToken;
use bulkhead_protocol::token::Token;
use zeroize::Zeroizing;

use crate::mesh::class;

/// Nodes per join token, which fixes their class.
const PER_TOKEN: usize = 20;
/// Entries between two reservations of room.
const PER_RESERVATION: usize = 1000;

/// Enrols `count` nodes into the state directory of a coordinator that is not running.
pub(crate) fn enrol(state: &Path, count: usize) {
    let directory = StateDir::open(state).unwrap();
    let _lock = Lock::take(&directory).unwrap();
    let recovered = boot::recover(&directory, Options::default()).unwrap();
    let clock = Clock::start();
    // Where it is reached is in the tokens only, and those are used up here.
    let settings = Partial { addresses: Some(vec!["127.0.0.1:8443".to_owned()]), ..Partial::default() };
    let coordinator =
        boot::coordinator(&directory, recovered.state, &settings.settle().unwrap(), &clock).unwrap();
    let mut registry = Registry { coordinator, journal: recovered.journal, clock, entries: 0 };
    let mut secret = Zeroizing::new(Vec::new());
    for number in 0..count {
        if number % PER_TOKEN == 0 {
            secret = registry.token(&class(number / PER_TOKEN));
        }
        registry.join(number, secret.clone());
    }
    registry.journal.sync().unwrap();
}

struct Registry {
    coordinator: Coordinator,
    journal: FileJournal,
    clock: Clock,
    entries: usize,
}

impl Registry {
    fn handle(&mut self, command: Command) -> Reply {
        let mut reply = None;
        for effect in self.coordinator.handle(command, self.clock.now()) {
            match effect {
                Effect::Persist(event) => {
                    if self.entries.is_multiple_of(PER_RESERVATION) {
                        self.journal.reserve().unwrap();
                    }
                    self.journal.append(&entry(&event)).unwrap();
                    self.entries += 1;
                }
                Effect::Reply(_, said) => reply = Some(*said),
                Effect::Send(..) | Effect::Close(..) => {}
            }
        }
        let reply = reply.expect("a request is answered at once");
        if let Reply::Refused(refusal) = &reply {
            panic!("{}", refusal.message);
        }
        reply
    }

    /// The secret of a fresh join token.
    fn token(&mut self, label: &str) -> Zeroizing<Vec<u8>> {
        let uses = Some(u32::try_from(PER_TOKEN).unwrap());
        let create = CreateToken { labels: Labels::parse(label).unwrap(), uses, ..CreateToken::default() };
        let command = Command::Admin {
            request: RequestId(1),
            credential: Credential::LocalRoot { uid: 0 },
            source: None,
            call: AdminCall::TokenCreate(create),
            entropy: entropy().unwrap(),
        };
        let Reply::TokenCreated(created) = self.handle(command) else { panic!("no token") };
        Zeroizing::new(Token::parse(&created.token).unwrap().secret.to_vec())
    }

    fn join(&mut self, number: usize, secret: Zeroizing<Vec<u8>>) {
        let identity = IdentityKey::from_seed(random().unwrap());
        let tunnel = TunnelKey::from_bytes(random().unwrap());
        // Enrolments of one address are limited in number.
        let source = Ipv4Addr::from_bits(0x0a40_0000 + u32::try_from(number).unwrap()).into();
        let request = RequestId(1);
        let begin = Command::EnrolBegin { request, source, entropy: entropy().unwrap() };
        let Reply::EnrolBegun(begun) = self.handle(begin) else { panic!("no challenge") };
        let challenge = Challenge(begun.challenge.try_into().unwrap());
        let challenge_key = ChallengeKey(begun.challenge_key.try_into().unwrap());
        let proof = CertificateRequest::create(&identity, &tunnel, &challenge, &challenge_key);
        let finish = Command::EnrolFinish {
            request,
            enrolment: begun.enrolment,
            certificate_request: Box::new(proof),
            secret,
            name: Some(format!("crowd-{number}")),
            source: None,
            entropy: entropy().unwrap(),
        };
        let Reply::Enrolled(_) = self.handle(finish) else { panic!("not enrolled") };
    }
}
