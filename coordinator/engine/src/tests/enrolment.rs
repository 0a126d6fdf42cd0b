//! Enrolment: D1, D2, D13, L15.

use super::scene::{Scene, name};
use crate::{AdminCall, Class};
use bulkhead_identity::{CertificateRequest, Labels, Role};
use bulkhead_protocol::admin::CreateToken;
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn a_node_gets_what_its_token_says_and_nothing_it_asked_for() {
    let mut scene = Scene::new();
    let web = scene.node("web", "env=prod,role=web");
    let identity = web.identity(&scene);
    assert_eq!(identity.name(), &name("web"));
    assert_eq!(identity.role(), Role::Node);
    assert_eq!(identity.labels(), &Labels::parse("env=prod,role=web").unwrap());
    let claims = identity.claims();
    assert_eq!(claims.identity_key, web.identity.public());
    assert_eq!(claims.tunnel_key, Some(web.tunnel.public()));
    assert_eq!(claims.addresses.unwrap().v4.to_string(), "100.64.0.10");
}

#[test]
fn one_token_makes_one_node_whatever_number_tries() {
    let mut scene = Scene::new();
    let secret = scene.token(CreateToken::default());
    // All begin before any finishes.
    let machines: Vec<_> = (0..1000).map(|_| (scene.keys(), scene.begin())).collect();
    let mut joined = 0;
    for (number, ((identity, tunnel), (enrolment, challenge, challenge_key))) in
        machines.into_iter().enumerate()
    {
        let request = CertificateRequest::create(&identity, &tunnel, &challenge, &challenge_key);
        joined += u32::from(scene.finish(enrolment, request, &*secret, Some(&format!("n{number}"))).is_ok());
    }
    assert_eq!(joined, 1);
    assert_eq!(scene.coordinator.state().nodes.len(), 1);
}

#[test]
fn d2_every_wrong_token_is_refused_in_the_same_words() {
    let mut scene = Scene::new();
    let spent = scene.token(CreateToken::default());
    scene.join(&*spent, Some("first")).unwrap();
    let revoked = scene.token(CreateToken::default());
    let ids: BTreeSet<_> = scene.coordinator.state().tokens.keys().cloned().collect();
    for id in ids {
        scene.admin(AdminCall::TokenRevoke(id)).unwrap();
    }
    let expired = scene.token(CreateToken { ttl_secs: Some(10), ..CreateToken::default() });
    scene.wait(Duration::from_secs(10));
    let wrong: [&[u8]; 5] = [&*spent, &*revoked, &*expired, &[0; 32], b""];
    let refusals: Vec<_> =
        wrong.iter().map(|secret| scene.join(secret, Some("second")).err().unwrap()).collect();
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    assert_eq!(refusals[0].class, Class::Forbidden);
}

#[test]
fn a_challenge_is_answered_once_and_in_time() {
    let mut scene = Scene::new();
    let secret = scene.token(CreateToken { uses: Some(9), ..CreateToken::default() });
    let (identity, tunnel) = scene.keys();
    let (enrolment, challenge, challenge_key) = scene.begin();
    let request = CertificateRequest::create(&identity, &tunnel, &challenge, &challenge_key);
    assert!(scene.finish(enrolment.clone(), request.clone(), &[1; 32], Some("web")).is_err());
    assert_eq!(scene.finish(enrolment, request, &*secret, Some("web")).unwrap_err().code, "BH-C101");

    let (enrolment, challenge, challenge_key) = scene.begin();
    let request = CertificateRequest::create(&identity, &tunnel, &challenge, &challenge_key);
    scene.wait(Duration::from_secs(61));
    assert_eq!(scene.finish(enrolment, request, &*secret, Some("web")).unwrap_err().class, Class::BadRequest);
}

#[test]
fn a_tunnel_key_needs_its_own_proof() {
    let mut scene = Scene::new();
    let secret = scene.token(CreateToken::default());
    let victim = scene.node("victim", "");
    let (identity, tunnel) = scene.keys();
    let (enrolment, challenge, challenge_key) = scene.begin();
    let mut request = CertificateRequest::create(&identity, &tunnel, &challenge, &challenge_key);
    request.tunnel_key = *victim.tunnel.public().as_bytes();
    assert_eq!(scene.finish(enrolment, request, &*secret, Some("thief")).unwrap_err().code, "BH-C103");
}

#[test]
fn names_keys_and_addresses_belong_to_one_node() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    let db = scene.node("db", "");
    let addresses =
        |scene: &Scene, machine: &super::scene::Machine| machine.identity(scene).claims().addresses;
    assert_ne!(addresses(&scene, &web), addresses(&scene, &db));

    let secret = scene.token(CreateToken { uses: Some(9), ..CreateToken::default() });
    assert_eq!(scene.join(&*secret, Some("web")).err().unwrap().code, "BH-C105");
    let (fresh_identity, fresh_tunnel) = scene.keys();
    for (identity, tunnel) in [(&web.identity, &fresh_tunnel), (&fresh_identity, &web.tunnel)] {
        let (enrolment, challenge, challenge_key) = scene.begin();
        let request = CertificateRequest::create(identity, tunnel, &challenge, &challenge_key);
        assert_eq!(scene.finish(enrolment, request, &*secret, Some("other")).unwrap_err().code, "BH-C106");
    }
    // A refusal spends nothing.
    assert!(scene.coordinator.state().tokens.values().any(|token| token.uses_left == 9));
}

#[test]
fn a_revoked_key_never_comes_back_and_neither_does_its_address() {
    let mut scene = Scene::new();
    let old = scene.node("web", "");
    let before = old.identity(&scene).claims().addresses;
    scene.revoke(&old);
    scene.admin(AdminCall::NodeRemove(name("web"))).unwrap();
    let secret = scene.token(CreateToken { uses: Some(9), ..CreateToken::default() });
    let (enrolment, challenge, challenge_key) = scene.begin();
    let request = CertificateRequest::create(&old.identity, &old.tunnel, &challenge, &challenge_key);
    assert_eq!(scene.finish(enrolment, request, &*secret, Some("web")).unwrap_err().code, "BH-C106");
    let new = scene.join(&*secret, Some("web")).unwrap();
    assert_ne!(new.identity(&scene).claims().addresses, before);
}

#[test]
fn the_name_comes_from_the_token_then_from_the_wish() {
    let mut scene = Scene::new();
    let fixed = scene.token(CreateToken { name: Some("db".to_owned()), ..CreateToken::default() });
    assert_eq!(scene.join(&*fixed, Some("web")).unwrap().name, name("db"));
    let free = scene.token(CreateToken::default());
    let refusal = scene.join(&*free, None).err().unwrap();
    assert!(refusal.help.unwrap().contains("--name"));
    let long = "x".repeat(65_536);
    for hostile in ["", "Web", "a.b", "../etc", "a\nb", "\u{202e}web", "a\"b", "-a", long.as_str()] {
        assert_eq!(scene.join(&*free, Some(hostile)).err().unwrap().code, "BH-C104", "{hostile:?}");
    }
}

#[test]
fn a_flood_of_beginnings_from_one_network_leaves_others_their_challenge() {
    let mut scene = Scene::new();
    let secret = scene.token(CreateToken::default());
    let (identity, tunnel) = scene.keys();
    let (enrolment, challenge, challenge_key) = scene.begin();
    for _ in 0..crate::enrol::MAX_CHALLENGES + 100 {
        let (source, entropy) = ("2001:db8::1".parse().unwrap(), scene.entropy());
        scene.handle(crate::Command::EnrolBegin { request: crate::RequestId(1), source, entropy });
    }
    let request = CertificateRequest::create(&identity, &tunnel, &challenge, &challenge_key);
    assert!(scene.finish(enrolment, request, &*secret, Some("web")).is_ok());
}
