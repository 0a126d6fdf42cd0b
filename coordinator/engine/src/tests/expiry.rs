//! Renewal after the end: an outage longer than a certificate's life costs nobody an enrolment, and gains nobody
//! anything but a renewal.

use super::renewal::renew;
use super::scene::{GRACE, LIFETIME, Machine, Scene, web_to_db};
use crate::{CloseReason, ConnectionId};
use bulkhead_identity::{Epoch, Generation, TunnelKey};
use bulkhead_protocol::control::{MapSequence, Receipt, ToCoordinator, ToNode};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes that may talk, and whose certificates ended while this coordinator was away.
fn after_an_outage(outage: Duration) -> (Scene, Machine, Machine) {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    scene.wait(LIFETIME + outage);
    let scene = scene.restarted(scene.journal.len());
    (scene, db, web)
}

fn return_with_an_ended_certificate(scene: &mut Scene, machine: &Machine) -> ConnectionId {
    let link = scene.connect_as(machine.last_identity(scene));
    scene.hello(link, 0, 0);
    link
}

fn closed(scene: &Scene, link: ConnectionId) -> Option<CloseReason> {
    scene.closed.iter().find(|(closed, _)| *closed == link).map(|(_, reason)| *reason)
}

#[test]
fn an_ended_certificate_is_renewed_within_the_grace_and_the_link_is_an_ordinary_one_then() {
    for outage in [Duration::ZERO, GRACE - SECOND] {
        let (mut scene, db, web) = after_an_outage(outage);
        let db_link = return_with_an_ended_certificate(&mut scene, &db);
        assert!(renew(&mut scene, db_link, &db.identity, &db.tunnel));
        let web_link = return_with_an_ended_certificate(&mut scene, &web);
        assert!(renew(&mut scene, web_link, &web.identity, &web.tunnel));
        scene.wait(SECOND);
        scene.tick();
        for (link, peer) in [(db_link, "web"), (web_link, "db")] {
            // Signed again when the outage was longer than half of the life of a bundle.
            assert!(scene.generation(link) >= Generation(1));
            assert!(scene.peers(link).contains(peer), "{peer}");
        }
        assert!(scene.closed.is_empty());
    }
}

#[test]
fn beyond_the_grace_or_without_one_it_is_refused() {
    let (mut scene, _, web) = after_an_outage(GRACE);
    let link = return_with_an_ended_certificate(&mut scene, &web);
    assert_eq!(closed(&scene, link), Some(CloseReason::Expired));
    assert!(!scene.inbox.contains_key(&link));

    let (mut scene, _, web) = after_an_outage(SECOND);
    scene.coordinator.config.renewal_grace = Duration::ZERO;
    let link = return_with_an_ended_certificate(&mut scene, &web);
    assert_eq!(closed(&scene, link), Some(CloseReason::Expired));
}

#[test]
fn before_the_renewal_nothing_is_sent_that_lets_anyone_in() {
    let (mut scene, db, web) = after_an_outage(SECOND);
    let web_link = return_with_an_ended_certificate(&mut scene, &web);
    // What would go to every link, and to this one in particular.
    scene.apply(web_to_db());
    scene.label(&web.name, "tier", Some("one")).unwrap();
    scene.wait(SECOND);
    scene.tick();
    let db_link = return_with_an_ended_certificate(&mut scene, &db);
    assert!(renew(&mut scene, db_link, &db.identity, &db.tunnel));
    let said = &scene.inbox[&web_link];
    assert!(matches!(said[..], [ToNode::Welcome { .. }]), "{said:?}");

    assert!(renew(&mut scene, web_link, &web.identity, &web.tunnel));
    assert_eq!(scene.generation(web_link), Generation(2));
    assert!(scene.peers(web_link).contains("db"));
}

#[test]
fn before_the_renewal_nothing_else_is_accepted() {
    let (generation, epoch, map) = (Generation(1), Epoch(0), MapSequence(0));
    let (scene, _, web) = after_an_outage(SECOND);
    let receipt = Receipt::sign(&web.identity, web.name.clone(), generation, epoch, scene.now.wall, map);
    let acknowledge = ToCoordinator::Acknowledge { trust_version: Epoch(1), generation, epoch, map, receipt };
    let refused = ToCoordinator::Refused { what: "policy".to_owned(), why: "no".to_owned() };
    let endpoints = ToCoordinator::Endpoints { wireguard_port: 1, endpoints: Vec::new() };
    for message in [acknowledge, refused, endpoints, ToCoordinator::WantSnapshot, ToCoordinator::Leave] {
        let (mut scene, _, web) = after_an_outage(SECOND);
        let link = return_with_an_ended_certificate(&mut scene, &web);
        let entries = scene.journal.len();
        scene.say(link, message);
        assert!(matches!(closed(&scene, link), Some(CloseReason::Misbehaved(_))));
        assert_eq!(scene.journal.len(), entries);
        assert!(matches!(scene.inbox[&link][..], [ToNode::Welcome { .. }]));
    }
}

#[test]
fn a_revoked_node_is_refused_however_late_it_comes() {
    for later in [SECOND, GRACE - SECOND] {
        let (mut scene, _, web) = after_an_outage(Duration::ZERO);
        scene.revoke(&web);
        scene.wait(later);
        let link = return_with_an_ended_certificate(&mut scene, &web);
        assert_eq!(closed(&scene, link), Some(CloseReason::Revoked));
    }
}

#[test]
fn a_node_that_is_revoked_on_the_way_is_not_renewed() {
    let (mut scene, _, web) = after_an_outage(SECOND);
    let link = return_with_an_ended_certificate(&mut scene, &web);
    scene.revoke(&web);
    assert_eq!(closed(&scene, link), Some(CloseReason::Revoked));
    let entries = scene.journal.len();
    scene.say(link, ToCoordinator::RenewBegin);
    assert_eq!(scene.journal.len(), entries);
}

#[test]
fn a_node_that_was_relabelled_while_it_was_away_is_renewed_with_its_new_labels() {
    let (mut scene, db, web) = after_an_outage(SECOND);
    scene.label(&web.name, "tier", Some("one")).unwrap();
    let db_link = return_with_an_ended_certificate(&mut scene, &db);
    assert!(renew(&mut scene, db_link, &db.identity, &db.tunnel));
    let link = return_with_an_ended_certificate(&mut scene, &web);
    assert!(renew(&mut scene, link, &web.identity, &web.tunnel));
    let chain = scene.inbox[&link].iter().rev().find_map(super::scene::certificate).unwrap().clone();
    let renewed = Machine { chain, ..web }.identity(&scene);
    assert!(renewed.labels().iter().any(|(key, value)| (key.as_str(), value.as_str()) == ("tier", "one")));
    assert!(!scene.revocations(link).revokes(renewed.claims()));
}

#[test]
fn an_ended_certificate_of_an_earlier_tunnel_key_is_not_renewed() {
    let (mut scene, _, web) = after_an_outage(SECOND);
    let link = return_with_an_ended_certificate(&mut scene, &web);
    let fresh = TunnelKey::from_bytes(scene.entropy().derive("tunnel"));
    assert!(!renew(&mut scene, link, &web.identity, &fresh), "the tunnel key has to stay");
    assert!(renew(&mut scene, link, &web.identity, &web.tunnel));
    // Now that it is an ordinary link it may change; the old chain proves nothing any more.
    assert!(renew(&mut scene, link, &web.identity, &fresh));
    let link = return_with_an_ended_certificate(&mut scene, &web);
    assert_eq!(closed(&scene, link), Some(CloseReason::Expired));
}
