//! Policy as it travels: the complete signed bundle, and the slice of it that one node is given.
//!
//! As with other documents they are put in twice: as they come, where nobody but us can have signed them; and with
//! their header signed again by us, so that what lies behind the signature is reached too.

use bulkhead_acl::{Bundle, Decision, Direction, Policy, Service, SignedBundle, Subject, Verdict};
use bulkhead_identity::signed::{CONTEXT_POLICY, CONTEXT_RECEIPT};
use bulkhead_identity::{Generation, IdentityKey, Signed};
use minicbor::{Decoder, Encoder};

use super::deployment::{ACME, WALL};

/// A complete bundle.
pub fn bundle(data: &[u8]) -> bool {
    let read = Bundle::read(data).ok();
    if let Some(bundle) = &read {
        // Whatever is read means one thing, signed again or not.
        assert_eq!(Bundle::read(&bundle.sign(&[&ACME.policy_key])).as_ref(), Ok(bundle));
    }
    let untouched = SignedBundle::verify(data, &ACME.trust, Generation(0), WALL);
    if let Ok(verified) = &untouched {
        assert_eq!(header(data), header(&ACME.bundle), "a bundle that was never signed");
        assert_eq!(verified.rules(), ACME.rules());
        assert!(read.is_some() && SignedBundle::signers(data).is_ok());
    }
    let Ok(signed) = SignedBundle::countersign(data, &ACME.policy_key) else {
        assert!(read.is_none());
        return false;
    };
    assert!(SignedBundle::signers(&signed).unwrap().contains(&ACME.policy_key.public()));
    let accepted = SignedBundle::verify(&signed, &ACME.trust, Generation(0), WALL);
    if let (Ok(verified), Some(bundle)) = (&accepted, &read) {
        assert_eq!((verified.rules(), verified.generation()), (&bundle.rules, bundle.generation));
        assert!(verified.not_before() <= WALL && WALL < verified.expires());
        assert_slices_say_what_the_bundle_says(verified);
    }
    let stranger = SignedBundle::countersign(&unsigned(data), &ACME.operators[0]).unwrap();
    assert!(SignedBundle::verify(&stranger, &ACME.trust, Generation(0), WALL).is_err());
    untouched.is_ok() || accepted.is_ok()
}

/// The same bundle or slice without any signature.
pub(super) fn unsigned(data: &[u8]) -> Vec<u8> {
    with_header(data, |payload| Signed::sign(CONTEXT_POLICY, payload, &[]))
}

fn assert_slices_say_what_the_bundle_says(bundle: &SignedBundle) {
    for (me, peer) in [(&ACME.web, &ACME.db), (&ACME.db, &ACME.web)] {
        let given = bundle.slice(&Subject::from(me));
        let policy = Policy::verify(&given, &ACME.trust, bundle.generation(), WALL).unwrap();
        assert_eq!(policy.rules().never, bundle.rules().never, "a guard rail was left out");
        assert!(policy.rules().allow.iter().all(|rule| bundle.rules().allow.contains(rule)));
        let permit = policy.permit(me, peer, WALL);
        let (me, peer) = (Subject::from(me), Subject::from(peer));
        for service in SERVICES {
            for (direction, from, to) in [(Direction::Inbound, &peer, &me), (Direction::Outbound, &me, &peer)]
            {
                let verdict = permit.as_ref().map(|permit| permit.verdict(direction, service, WALL));
                let allowed = matches!(verdict, Some(Verdict::Allow(_)));
                let decided = bundle.rules().decide(from, to, service, WALL);
                assert_eq!(allowed, matches!(decided, Decision::Allowed { .. }), "{service}: {decided:?}");
            }
        }
    }
}

const SERVICES: [Service; 5] =
    [Service::Tcp(5432), Service::Tcp(443), Service::Udp(5000), Service::Echo, Service::Ip(47)];

/// What one node is given. Whoever delivers it can leave out what permits, and nothing else.
pub fn slice(data: &[u8]) -> bool {
    let (trust, held) = (&ACME.trust, &ACME.policy);
    let untouched = Policy::verify(data, trust, Generation(0), WALL);
    if let Ok(policy) = &untouched {
        assert_eq!(header(data), header(held.bytes()), "a slice that was never signed");
        assert_eq!(policy.rules().never, ACME.rules().never, "a guard rail was left out");
        assert!(
            policy.rules().allow.iter().all(|rule| ACME.rules().allow.contains(rule)),
            "a rule was added"
        );
    }
    let signed =
        |key: &IdentityKey, context| with_header(data, |payload| Signed::sign(context, payload, &[key]));
    let ours = signed(&ACME.policy_key, CONTEXT_POLICY);
    let accepted = Policy::verify(&ours, trust, Generation(0), WALL);
    if let Ok(policy) = &accepted {
        assert_eq!(policy.bytes(), ours);
        assert!(policy.generation() > Generation(0) && WALL < policy.expires());
        if let Ok(next) = held.replace(&ours, trust, WALL) {
            let same = header(held.bytes()) == header(&ours);
            assert!(next.generation() > held.generation() || same, "two contents for one generation");
        }
    }
    // The same bytes signed by another key, or for another purpose, are nothing.
    for other in [signed(&ACME.operators[0], CONTEXT_POLICY), signed(&ACME.policy_key, CONTEXT_RECEIPT)] {
        assert!(Policy::verify(&other, trust, Generation(0), WALL).is_err());
    }
    untouched.is_ok() || accepted.is_ok()
}

/// The signed header of a bundle or slice: the first element of either.
fn header(data: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(data);
    decoder.array().ok()?;
    Signed::decode(decoder.bytes().ok()?).map(|signed| signed.payload).ok()
}

/// The same with the header signed otherwise; as it was when it has none.
fn with_header(data: &[u8], sign: impl Fn(Vec<u8>) -> Signed) -> Vec<u8> {
    let Some(payload) = header(data) else { return data.to_vec() };
    let mut decoder = Decoder::new(data);
    let (Ok(Some(length)), Ok(_)) = (decoder.array(), decoder.bytes()) else { return data.to_vec() };
    let mut encoder = Encoder::new(Vec::new());
    encoder.array(length).unwrap().bytes(&sign(payload).encode()).unwrap();
    [encoder.into_writer(), data[decoder.position()..].to_vec()].concat()
}
