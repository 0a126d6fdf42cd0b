//! Policy keys elsewhere: a coordinator that signs nothing itself takes what they signed, exactly that, and can be
//! made to widen nothing.

use super::scene::{START, Scene, config, key, rule, web_to_db};
use super::trust::{OPERATOR, apply, next};
use crate::{AdminCall, Class, Config, Event};
use bulkhead_acl::{Bundle, Sources, check};
use bulkhead_identity::{Generation, IdentityKey, Timestamp, Trust, TrustDocument};
use bulkhead_protocol::admin::{Confirm, PolicyText, Signing, TrustOverrides};
use data_encoding::BASE64;
use std::time::Duration;

const WINDOW: u64 = 300;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn with_keys(held: &[u8]) -> Config {
    let config = config();
    let document = TrustDocument {
        policy_keys: vec![key(4).public(), key(5).public(), key(6).public()],
        policy_threshold: 2,
        ..config.trust.document().clone()
    };
    let trust = Trust::stored(&document.sign(&[&key(3)]), START).unwrap();
    Config { trust, policy_keys: held.iter().map(|seed| key(*seed)).collect(), ..config }
}

fn offline() -> Config {
    with_keys(&[])
}

/// One of the two that it takes: not enough.
fn half() -> Config {
    with_keys(&[4])
}

fn stranger() -> Config {
    with_keys(&[4, 77])
}

fn online() -> Config {
    with_keys(&[4, 6])
}

/// The first days of this deployment.
fn bundle(sources: &Sources, generation: u64, keys: &[&IdentityKey]) -> String {
    until(sources, generation, keys, START.plus(30 * DAY))
}

fn until(sources: &Sources, generation: u64, keys: &[&IdentityKey], expires: Timestamp) -> String {
    let bundle = Bundle {
        trust_domain: config().trust.document().trust_domain.clone(),
        generation: Generation(generation),
        not_before: START,
        expires,
        rules: check(sources, START).unwrap().rules,
        seed: [9; 32],
    };
    BASE64.encode(&bundle.sign(keys))
}

fn signed(sources: Sources, generation: u64) -> PolicyText {
    let bundle = bundle(&sources, generation, &[&key(4), &key(5)]);
    PolicyText { sources, bundle: Some(bundle), ..PolicyText::default() }
}

fn plain(sources: Sources) -> PolicyText {
    PolicyText { sources, ..PolicyText::default() }
}

#[test]
fn without_enough_keys_of_the_trust_document_a_coordinator_signs_nothing() {
    for config in [offline as fn() -> Config, half, stranger] {
        let mut scene = Scene::of(config);
        assert_eq!(scene.policy().signing, Signing::Offline);
        let refusal = scene.propose(plain(web_to_db())).unwrap_err();
        assert_eq!((refusal.class, refusal.code), (Class::Conflict, "BH-C158"));
        assert!(refusal.help.unwrap().contains("bulkheadctl policy sign"));
        scene.propose(signed(web_to_db(), 1)).unwrap();
        scene.propose(signed(rule("other", "role=a", "role=b", ""), 2)).unwrap();
        assert_eq!(scene.rollback(1).unwrap_err().code, "BH-C158");
    }
    let mut scene = Scene::of(online);
    assert_eq!(scene.policy().signing, Signing::Online);
    assert!(scene.propose(plain(web_to_db())).is_ok());
}

#[test]
fn what_was_signed_is_enforced_as_it_is() {
    let mut scene = Scene::of(offline);
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db, _) = (scene.online(&db), scene.online(&web));
    let applied = scene.propose(signed(web_to_db(), 7)).unwrap();
    assert_eq!(applied.generation, 7);
    assert_eq!(scene.generation(db), Generation(7));
    assert_eq!(scene.peers(db).len(), 1);
    let record = scene.coordinator.state().policy().unwrap().clone();
    assert_eq!(BASE64.encode(&record.bundle), signed(web_to_db(), 7).bundle.unwrap());
    let mut scene = scene.restarted(scene.journal.len());
    assert_eq!((scene.policy().generation, scene.policy().sources), (7, web_to_db()));
}

#[test]
fn an_online_coordinator_takes_signed_policies_as_well() {
    let mut scene = Scene::of(online);
    scene.propose(signed(web_to_db(), 3)).unwrap();
    assert_eq!(scene.apply(rule("other", "role=a", "role=b", "")).generation, 4);
}

#[test]
fn a_signature_that_does_not_suffice_is_refused() {
    let mut scene = Scene::of(offline);
    let sources = web_to_db();
    let one = bundle(&sources, 1, &[&key(4)]);
    let foreign = bundle(&sources, 1, &[&key(4), &key(77)]);
    let ended = until(&sources, 1, &[&key(4), &key(5)], Timestamp(START.0 + 1));
    scene.wait(Duration::from_secs(60));
    for (bundle, why) in
        [(one, "one of two"), (foreign, "a stranger's"), (ended, "ended"), (String::new(), "none")]
    {
        let text = PolicyText { bundle: Some(bundle), ..plain(sources.clone()) };
        let refusal = scene.propose(text).unwrap_err();
        assert_eq!((refusal.class, refusal.code), (Class::Unprocessable, "BH-C162"), "{why}");
    }
    assert_eq!(scene.policy().generation, 0);
}

#[test]
fn the_text_must_be_what_was_signed() {
    let mut scene = Scene::of(offline);
    let wider = rule("web-to-db", "*", "*", "");
    let text = PolicyText { sources: wider, ..signed(web_to_db(), 1) };
    assert_eq!(scene.propose(text).unwrap_err().code, "BH-C163");
}

#[test]
fn generations_of_signed_policies_only_grow_and_not_without_bounds() {
    let mut scene = Scene::of(offline);
    scene.propose(signed(web_to_db(), 5)).unwrap();
    for old in [1, 5] {
        assert_eq!(scene.propose(signed(web_to_db(), old)).unwrap_err().code, "BH-C162");
    }
    let refusal = scene.propose(signed(web_to_db(), u64::MAX)).unwrap_err();
    assert!(refusal.message.contains("MAX_GENERATION_LEAP"), "{}", refusal.message);
    assert!(scene.propose(signed(web_to_db(), 6)).is_ok());
}

#[test]
fn commit_confirm_needs_a_fallback_that_was_signed_with_it() {
    let after = || rule("after", "role=web", "role=other", "");
    let both = [&key(4), &key(5)];
    let pending = |fallback: Option<String>| PolicyText {
        fallback,
        confirm_within: Some(WINDOW),
        ..signed(after(), 2)
    };
    let mut scene = Scene::of(offline);
    scene.propose(signed(web_to_db(), 1)).unwrap();
    let refusal = scene.propose(pending(None)).unwrap_err();
    assert_eq!(refusal.code, "BH-C165");
    // Another text, a generation that does not follow, too few signatures, one that ends before it is needed.
    let ends = Timestamp(START.0 + WINDOW);
    for wrong in [
        bundle(&after(), 3, &both),
        bundle(&web_to_db(), 4, &both),
        bundle(&web_to_db(), 2, &both),
        bundle(&web_to_db(), 3, &both[..1]),
        until(&web_to_db(), 3, &both, ends),
    ] {
        assert!(scene.propose(pending(Some(wrong))).is_err());
    }
    assert_eq!(scene.policy().generation, 1);

    scene.propose(pending(Some(bundle(&web_to_db(), 3, &both)))).unwrap();
    // Also when the coordinator is killed in between.
    let mut scene = scene.restarted(scene.journal.len());
    scene.wait(Duration::from_secs(WINDOW));
    scene.tick();
    let current = scene.policy();
    assert_eq!((current.generation, current.sources, current.pending), (3, web_to_db(), None));
}

#[test]
fn the_first_policy_falls_back_to_nobody() {
    let mut scene = Scene::of(offline);
    let fallback = Some(bundle(&Sources::default(), 2, &[&key(4), &key(5)]));
    let text = PolicyText { fallback, confirm_within: Some(WINDOW), ..signed(web_to_db(), 1) };
    scene.propose(text).unwrap();
    scene.wait(Duration::from_secs(WINDOW));
    scene.tick();
    assert_eq!((scene.policy().generation, scene.policy().sources), (2, Sources::default()));
}

#[test]
fn a_pending_policy_goes_back_by_hand_without_keys() {
    let mut scene = Scene::of(offline);
    scene.propose(signed(web_to_db(), 1)).unwrap();
    let after = rule("after", "role=web", "role=other", "");
    let fallback = Some(bundle(&web_to_db(), 3, &[&key(4), &key(5)]));
    let text = PolicyText { fallback, confirm_within: Some(WINDOW), ..signed(after, 2) };
    scene.propose(text).unwrap();
    assert_eq!(scene.rollback(1).unwrap().generation, 3);
    assert_eq!(scene.policy().sources, web_to_db());
}

#[test]
fn a_fallback_that_ended_while_the_coordinator_was_down_is_said_and_can_be_overtaken() {
    let mut scene = Scene::of(offline);
    scene.propose(signed(web_to_db(), 1)).unwrap();
    let after = rule("after", "role=web", "role=other", "");
    let ends = Timestamp(START.0 + 2 * WINDOW);
    let fallback = Some(until(&web_to_db(), 3, &[&key(4), &key(5)], ends));
    scene.propose(PolicyText { fallback, confirm_within: Some(WINDOW), ..signed(after, 2) }).unwrap();
    scene.wait(DAY);
    let mut scene = scene.restarted(scene.journal.len());
    scene.tick();
    assert_eq!(scene.policy().generation, 2);
    let warnings = scene.policy().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("cannot go back")), "{warnings:?}");
    let confirm = Confirm { generation: 2, without: Vec::new() };
    assert!(scene.admin(AdminCall::PolicyConfirm(confirm)).is_err());
    scene.propose(signed(web_to_db(), 4)).unwrap();
    assert!(scene.policy().warnings.is_empty() && scene.policy().pending.is_none());
}

#[test]
fn with_the_keys_at_hand_a_fallback_that_was_overtaken_is_signed_anew() {
    let mut scene = Scene::of(online);
    scene.propose(signed(web_to_db(), 1)).unwrap();
    let after = rule("after", "role=web", "role=other", "");
    let fallback = Some(bundle(&web_to_db(), 3, &[&key(4), &key(5)]));
    scene.propose(PolicyText { fallback, confirm_within: Some(WINDOW), ..signed(after.clone(), 2) }).unwrap();
    // Signed again meanwhile: the fallback's generation is taken.
    scene.persist(Event::restored(scene.now.wall));
    scene.admin(AdminCall::AcceptRestore).ok().unwrap();
    assert_eq!(scene.policy().sources, after);
    scene.wait(Duration::from_secs(WINDOW));
    scene.tick();
    let current = scene.policy();
    assert_eq!((current.sources, current.pending, current.warnings), (web_to_db(), None, Vec::new()));
}

#[test]
fn operators_need_not_wait_for_what_cannot_go_back() {
    let mut scene = Scene::of(offline);
    scene.propose(signed(web_to_db(), 1)).unwrap();
    let after = rule("after", "role=web", "role=other", "");
    let fallback = Some(until(&web_to_db(), 3, &[&key(4), &key(5)], Timestamp(START.0 + 2 * WINDOW)));
    scene.propose(PolicyText { fallback, confirm_within: Some(WINDOW), ..signed(after, 2) }).unwrap();
    let document = next(&scene, &[OPERATOR], |document| document.policy_keys.push(key(7).public()));
    let refused = apply(&mut scene, document.clone(), TrustOverrides::default());
    assert_eq!(refused, Err("BH-C175"), "it can still go back");
    scene.wait(DAY);
    let mut scene = scene.restarted(scene.journal.len());
    scene.tick();
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
}

#[test]
fn a_signature_that_has_not_begun_or_counts_no_more_is_a_warning() {
    let mut scene = Scene::of(offline);
    scene.propose(signed(web_to_db(), 1)).unwrap();
    scene.now.wall.0 -= 3600;
    assert!(scene.policy().warnings[0].contains("check the clock"));
    scene.now.wall.0 += 3600;
    let document = next(&scene, &[OPERATOR], |document| {
        document.policy_keys = vec![key(5).public(), key(6).public()];
    });
    apply(&mut scene, document, TrustOverrides { policy: true, ..TrustOverrides::default() }).unwrap();
    assert!(scene.policy().warnings[0].contains("bulkheadctl policy sign"));
    scene.tick();
    assert_eq!(scene.policy().generation, 1);
}

#[test]
fn a_signature_near_its_end_is_a_warning_and_is_not_renewed() {
    let mut scene = Scene::of(offline);
    scene.propose(signed(web_to_db(), 1)).unwrap();
    assert!(scene.policy().warnings.is_empty());
    scene.wait(16 * DAY);
    scene.tick();
    assert_eq!(scene.policy().generation, 1);
    assert!(scene.policy().warnings[0].contains("bulkheadctl policy sign"));
    // Nothing is tried over and over.
    assert!(scene.coordinator.next_timeout() > scene.now.mono + Duration::from_secs(2));
    scene.wait(16 * DAY);
    scene.tick();
    assert!(scene.policy().warnings[0].contains("ended"));
    let text = PolicyText {
        bundle: Some(until(&web_to_db(), 2, &[&key(4), &key(5)], START.plus(60 * DAY))),
        ..plain(web_to_db())
    };
    scene.propose(text).unwrap();
    assert!(scene.policy().warnings.is_empty());
}

#[test]
fn after_a_restore_a_signed_policy_overtakes_what_nodes_hold() {
    let mut scene = Scene::of(offline);
    let db = scene.node("db", "role=db");
    scene.propose(signed(web_to_db(), 1)).unwrap();
    scene.persist(Event::restored(scene.now.wall));
    let link = scene.connect(&db);
    scene.hello(link, 3, 0);
    assert_eq!(scene.propose(signed(web_to_db(), 4)).unwrap_err().class, Class::Unavailable);
    scene.admin(AdminCall::AcceptRestore).ok().unwrap();
    assert_eq!(scene.policy().generation, 1);
    let link = scene.connect(&db);
    scene.hello(link, 3, 0);
    let labels = scene.label(&db.name, "a", Some("b")).err().unwrap();
    assert!(labels.message.contains("policy generation 3 (here 1)"), "{labels}");
    assert!(labels.help.unwrap().contains("bulkheadctl policy sign --generation 4"));
    scene.propose(signed(web_to_db(), 4)).unwrap();
    assert_eq!(scene.generation(link), Generation(4));
    assert!(scene.coordinator.read_only().is_none());
}
