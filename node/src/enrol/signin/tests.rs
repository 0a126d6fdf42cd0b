//! What ends a sign-in, and what does not; and that what it brought is kept.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::enrol::entry::Reached;
use crate::enrol::https::Https;
use crate::fixture::{Domain, Person};
use crate::state::held::Standing;
use bulkhead_identity::TrustHash;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Mutex;

/// The person who asked for the code has long gone.
const LONG_OVER: Timestamp = Timestamp(1);

fn wish() -> Wish {
    Wish { name: NodeName::parse("web").ok(), provider: None }
}

fn kept(interval: u64, ends: Timestamp) -> KeptSignIn {
    let entry = Entry { coordinators: Vec::new(), trust: TrustHash([7; 32]) };
    let authorization = DeviceAuthorization {
        device_code: vec![9; 32],
        user_code: "WDJB-MJHT".into(),
        verification_uri: "https://bulkhead.acme.example/device".into(),
        verification_uri_complete: "https://bulkhead.acme.example/device?code=WDJB-MJHT".into(),
        match_code: Some("42 17".into()),
        expires_in: 600,
        interval,
    };
    KeptSignIn::new(entry, wish(), authorization, ends)
}

/// A sign-in that goes on with a coordinator that says this, one answer for each question.
async fn waiting(ends: Timestamp, says: Vec<(u16, Value)>) -> Waiting {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let says = Mutex::new(says.into_iter());
    let service = service_fn(move |_| {
        let (status, body) = says.lock().unwrap().next().expect("one question too many");
        let body = if body.is_string() { "<html>".to_owned() } else { body.to_string() };
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        async { Ok::<_, Infallible>(answer) }
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service));
    let https = Https::over("coordinator", ours).await.unwrap();
    let reached = Reached { https, trust: Arc::new(Domain::new().trust(1)) };
    let joining = Joining { reached, keys: Arc::new(Person::new("web", 1).keys()) };
    Waiting::with(kept(0, ends), Talk::On(Box::new(joining)))
}

fn refused(code: &str) -> Value {
    json!({ "state": "refused", "code": code, "message": "no", "help": "ask somebody" })
}

fn trouble() -> Value {
    json!({ "code": "BH-R001", "message": "trouble", "help": "wait" })
}

#[tokio::test]
async fn only_the_coordinators_word_on_it_ends_a_sign_in() {
    let says = vec![(500, trouble()), (408, trouble()), (200, refused("BH-C204"))];
    let mut waiting = waiting(wall().plus(Duration::from_secs(600)), says).await;
    let mut told = Vec::new();
    let mut tell = |progress: Progress<'_>| {
        told.push(match progress {
            Progress::Unreachable(why) => why.to_string(),
            Progress::Reachable => "reachable".to_owned(),
            Progress::Code { .. }
            | Progress::Waiting { .. }
            | Progress::Approval { .. }
            | Progress::Forgotten => {
                panic!("nothing of that happened")
            }
        });
    };
    let Ok(Outcome::Refused(refusal)) = waiting.outcome(None, &mut tell).await else { panic!("not refused") };
    assert_eq!(waiting.ended(refusal, wall()).to_string(), "the sign-in was refused: no; ask somebody");
    assert_eq!(told, ["the coordinator cannot do that now: trouble; wait", "reachable"]);
}

#[tokio::test]
async fn a_refused_question_is_told_and_leaves_the_sign_in_kept() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    let mut waiting = waiting(LONG_OVER, vec![(404, trouble())]).await;
    store.begin_sign_in(waiting.keys(), &waiting.kept).unwrap();
    let error = waiting.outcome(Some(&store), &mut |_| {}).await.err().unwrap();
    assert!(error.is_over() && matches!(error, EnrolError::Refused(_)), "{error}");
    assert!(store.sign_in().unwrap().is_some());
}

#[test]
fn what_is_wished_for_now_counts_unless_an_administrator_is_awaited_already() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    let goes_on = |wish: Option<&Wish>| Waiting::kept(&store, None).unwrap().unwrap().is_for(wish);
    let other = Wish { provider: Some("acme".into()), ..wish() };
    store.begin_sign_in(&Keys::generate().unwrap(), &kept(5, LONG_OVER)).unwrap();
    assert!(goes_on(None) && goes_on(Some(&wish())) && !goes_on(Some(&other)));
    let mut awaited = kept(5, LONG_OVER);
    awaited.approval = Some("web".into());
    store.keep_sign_in(&awaited).unwrap();
    assert!(goes_on(None) && goes_on(Some(&other)));
}

#[test]
fn coordinators_may_move_and_may_not_be_others() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    store.begin_sign_in(&Keys::generate().unwrap(), &kept(5, LONG_OVER)).unwrap();
    let mut entry = Entry { coordinators: vec!["192.0.2.2:8443".into()], trust: TrustHash([7; 32]) };
    assert_eq!(Waiting::kept(&store, Some(&entry)).unwrap().unwrap().kept.entry, entry);
    assert_eq!(store.sign_in().unwrap().unwrap().entry, entry, "after a reboot, too");
    entry.trust = TrustHash([8; 32]);
    assert!(Waiting::kept(&store, Some(&entry)).unwrap().is_none());
}

#[tokio::test]
async fn what_was_confirmed_goes_on_whatever_is_wished_for_now() {
    let enrolled = json!({ "state": "enrolled", "name": "web", "chain": "", "control": [] });
    let approval = json!({ "state": "approval", "name": "web" });
    let states = [
        (enrolled, true),
        (approval, true),
        (json!({ "state": "waiting" }), false),
        (refused("BH-C204"), false),
    ];
    for (state, confirmed) in states {
        let mut left = waiting(LONG_OVER, vec![(200, state.clone())]).await;
        assert_eq!(left.is_confirmed().await.unwrap(), confirmed, "{state}");
    }
    let mut unknown = waiting(LONG_OVER, vec![(500, trouble())]).await;
    assert!(unknown.is_confirmed().await.is_err(), "nobody's word is no word");
}

#[tokio::test]
async fn a_code_that_should_be_over_is_asked_about_all_the_same() {
    let enrolled = json!({ "state": "enrolled", "name": "web", "chain": "", "control": [] });
    let mut confirmed = waiting(LONG_OVER, vec![(200, enrolled)]).await;
    assert!(matches!(confirmed.outcome(None, &mut |_| {}).await, Ok(Outcome::Enrolled(_))));
    let mut alone = waiting(LONG_OVER, vec![(200, refused(NOT_KNOWN))]).await;
    let Ok(Outcome::Refused(refusal)) = alone.outcome(None, &mut |_| {}).await else { panic!("not refused") };
    assert!(matches!(alone.ended(refusal, wall()), EnrolError::NobodyConfirmed));
}

#[test]
fn trouble_in_any_form_is_passing_and_an_answer_out_of_form_is_not() {
    let malformed = |status| HttpsError::Malformed { address: "c".into(), status }.into();
    for (status, passing) in [(500, true), (502, true), (408, true), (200, false), (404, false)] {
        assert_eq!(is_passing(&malformed(StatusCode::from_u16(status).unwrap())), passing, "{status}");
    }
}

#[tokio::test]
async fn the_coordinators_wish_for_a_pause_has_bounds_and_a_code_that_is_shown_again_says_what_is_left() {
    for (wished, kept_to) in [(0, 1), (5, 5), (u64::MAX, 60)] {
        let mut waiting = waiting(LONG_OVER, vec![]).await;
        waiting.kept = kept(wished, wall().plus(Duration::from_secs(90)));
        assert_eq!(waiting.interval(), Duration::from_secs(kept_to));
        let expected = Person::new("web", 1).keys().identity.public().fingerprint();
        waiting.show(&mut |progress| {
            let Progress::Code { left, fingerprint, .. } = progress else { panic!("no code") };
            assert!(left <= Duration::from_secs(90) && fingerprint == expected);
        });
    }
}

#[test]
fn what_cannot_be_gone_on_with_is_removed_where_none_may_be_begun() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    let goes_on = || enrol(temp.path(), None, None, &mut |_| panic!("nothing happens")).unwrap_err();
    store.begin_sign_in(&Keys::generate().unwrap(), &kept(5, LONG_OVER)).unwrap();
    std::fs::remove_file(temp.path().join("identity.key")).unwrap();
    assert!(goes_on().is_over());
    assert!(!store.has_sign_in().unwrap(), "without its keys");
    store.begin_sign_in(&Keys::generate().unwrap(), &kept(5, LONG_OVER)).unwrap();
    std::fs::write(temp.path().join("signin.json"), b"{").unwrap();
    assert!(goes_on().is_over());
    assert!(!store.has_sign_in().unwrap(), "not understood");
}

#[test]
fn a_node_whose_certificate_has_ended_is_good_again_with_what_its_owners_sign_in_brought() {
    let (domain, me) = (Domain::new(), Person::new("web", 1));
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    let held = Held::enrolled(domain.trust(1), domain.verified(&me));
    store.save_enrolment(&me.keys(), &held, &["192.0.2.1:8443".into()]).unwrap();
    let late = held.me.not_after().plus(Duration::from_secs(3600));
    let held = store.load(late).unwrap().held;
    assert_eq!(held.standing(late), Standing::NotValidNow);
    let answer = |chain: &Chain| FinishResponse {
        name: "web".into(),
        chain: minicbor::to_vec(chain).unwrap(),
        control: Vec::new(),
    };
    let fresh = domain.chain_until(&me, 2, late.plus(Duration::from_secs(3600)));
    let trust = || Arc::new(domain.trust(2));
    store.save_certificate(&taken_up(&held, trust(), &answer(&fresh), late).unwrap()).unwrap();
    let loaded = store.load(late).unwrap();
    assert_eq!(loaded.held.standing(late), Standing::Good);
    assert_eq!(loaded.held.trust.document().version.0, 2, "by which it was verified");
    assert_eq!(loaded.control, ["192.0.2.1:8443"]);
    // Nothing is believed unread.
    let others = domain.chain_until(&Person::new("web", 2), 2, late.plus(Duration::from_secs(3600)));
    let ended = domain.chain(&me, 2);
    for wrong in [answer(&others), answer(&ended), FinishResponse { chain: vec![1], ..answer(&fresh) }] {
        assert!(taken_up(&held, trust(), &wrong, late).is_err());
    }
}
