//! A root is replaced: overlap, every node under the new one, removal; nobody is cut.

use super::scene::{GRACE, LIFETIME, Machine, Scene, certificate, config, key, web_to_db};
use super::trust::{OPERATOR, apply, change, next, second_root};
use crate::timing::{REISSUE_BATCH, REISSUE_INTERVAL};
use crate::{AdminCall, CloseReason, Config, ConnectionId, Reply};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{Epoch, Issuer, RevocationList, Revocations, Timestamp, verify};
use bulkhead_protocol::admin::{TrustOverrides, TrustView};
use bulkhead_protocol::control::ToNode;

/// The same deployment with an issuer under the second root.
fn moved() -> Config {
    let config = config();
    let limits = config.issuer.limits().clone();
    let root = second_root();
    let (from, to) = (root.not_before(), Timestamp(root.not_before().0 + 900_000_000));
    let der = root.sign_issuer(key(61).public(), &limits, Serial([0x61; 16]), from, to).unwrap();
    Config { issuer: Issuer::load(key(61), der).unwrap(), ..config }
}

fn show(scene: &mut Scene) -> TrustView {
    let Ok(Reply::Trust(view)) = scene.admin(AdminCall::TrustShow) else { panic!("no trust") };
    view
}

/// Active nodes under each root.
fn counts(scene: &mut Scene) -> Vec<usize> {
    show(scene).roots.iter().map(|root| root.nodes).collect()
}

fn settle(scene: &mut Scene) {
    scene.tick();
    scene.wait(REISSUE_INTERVAL);
    scene.tick();
}

/// With both roots in force, and restarted under the new issuer.
fn overlapping(nodes: usize) -> (Scene, Vec<Machine>) {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let machines: Vec<_> = (0..nodes)
        .map(|at| {
            let role = if at % 2 == 0 { "role=db" } else { "role=web" };
            scene.node(&format!("n{at:03}"), role)
        })
        .collect();
    change(&mut scene, |document| document.roots.push(second_root().root_der().to_vec()));
    assert_eq!(counts(&mut scene), [nodes, 0]);
    (scene.restarted_as(moved), machines)
}

fn chain(scene: &Scene, link: ConnectionId) -> bulkhead_identity::Chain {
    scene.inbox[&link].iter().rev().find_map(certificate).unwrap().clone()
}

#[test]
fn connected_nodes_get_certificates_of_the_new_issuer_for_the_same_keys() {
    let (mut scene, machines) = overlapping(3);
    let links: Vec<_> = machines[..2].iter().map(|machine| scene.online(machine)).collect();
    settle(&mut scene);
    assert_eq!(counts(&mut scene), [1, 2], "one is away");
    let trust = scene.coordinator.trust();
    let issuer = moved().issuer.certificate().to_vec();
    for (machine, link) in machines.iter().zip(&links) {
        let (old, new) = (machine.identity(&scene), chain(&scene, *link));
        let new = verify(&new, trust, &scene.revocations(*link), scene.now.wall).unwrap();
        assert_eq!(*new.chain().certificates()[1], *issuer);
        assert_eq!(new.claims().tunnel_key, old.claims().tunnel_key);
        assert_eq!((new.labels(), new.claims().addresses), (old.labels(), old.claims().addresses));
        assert!(!scene.revocations(*link).revokes(old.claims()), "the old one ends by itself");
    }
    // Peers are told, and judge it under both roots.
    let peer = &scene.map(links[0]).peers[&machines[1].name].chain;
    assert_eq!(*peer, chain(&scene, links[1]));

    let journal = scene.journal.len();
    settle(&mut scene);
    assert_eq!(scene.journal.len(), journal, "once");
    let late = scene.online(&machines[2]);
    settle(&mut scene);
    assert_eq!(counts(&mut scene), [0, 3]);
    assert_eq!(*chain(&scene, late).certificates()[1], *issuer);
}

#[test]
fn the_old_root_goes_when_nobody_hangs_on_it_any_more() {
    let (mut scene, machines) = overlapping(2);
    let removed = |scene: &Scene| next(scene, &[OPERATOR], |document| drop(document.roots.remove(0)));
    scene.online(&machines[0]);
    settle(&mut scene);
    let document = removed(&scene);
    assert_eq!(apply(&mut scene, document.clone(), TrustOverrides::default()), Err("BH-C173"));
    let link = scene.online(&machines[1]);
    settle(&mut scene);
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
    assert_eq!(counts(&mut scene), [2]);
    let trust = scene.coordinator.trust();
    assert!(verify(&chain(&scene, link), trust, &Revocations::default(), scene.now.wall).is_ok());
    assert!(verify(&machines[1].chain, trust, &Revocations::default(), scene.now.wall).is_err());
    let restarted = scene.restarted_as(moved);
    assert_eq!(restarted.coordinator.trust().document().version, Epoch(3));
}

#[test]
fn the_revocation_list_is_signed_again_before_its_root_goes() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (gone, stays) = (scene.node("gone", "role=web"), scene.node("stays", "role=db"));
    scene.revoke(&gone);
    change(&mut scene, |document| document.roots.push(second_root().root_der().to_vec()));
    let mut scene = scene.restarted_as(moved);
    let link = scene.online(&stays);
    assert_eq!(scene.epoch(link), Epoch(1));
    settle(&mut scene);
    assert_eq!(scene.epoch(link), Epoch(2));
    assert!(scene.revocations(link).revokes(gone.identity(&scene).claims()));
    let list = scene.revocations(link).bytes().to_vec();
    assert_eq!(RevocationList::issuer_of(&list).unwrap(), moved().issuer.certificate());
    let document = next(&scene, &[OPERATOR], |document| drop(document.roots.remove(0)));
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
    assert_eq!(scene.restarted_as(moved).coordinator.state().revoked.epoch, Epoch(2));
}

#[test]
fn a_whole_deployment_is_reissued_at_its_pace() {
    let (mut scene, machines) = overlapping(REISSUE_BATCH + 1);
    for machine in &machines {
        scene.online(machine);
    }
    scene.tick();
    let first = counts(&mut scene)[1];
    assert!(first <= REISSUE_BATCH, "{first}");
    assert!(scene.coordinator.next_timeout() <= scene.now.mono + REISSUE_INTERVAL);
    scene.tick();
    assert_eq!(counts(&mut scene)[1], first, "not before the interval is over");
    scene.wait(REISSUE_INTERVAL);
    scene.tick();
    assert_eq!(counts(&mut scene)[1], machines.len());
}

#[test]
fn a_certificate_of_the_old_issuer_that_ended_is_still_renewed_during_the_overlap() {
    let (mut scene, machines) = overlapping(2);
    scene.wait(LIFETIME + GRACE / 2);
    let link = scene.connect_as(machines[0].last_identity(&scene));
    assert!(!scene.closed.iter().any(|(closed, _)| *closed == link));
    scene.hello(link, 0, 0);
    assert!(super::renewal::renew(&mut scene, link, &machines[0].identity, &machines[0].tunnel));
    assert_eq!(*chain(&scene, link).certificates()[1], *moved().issuer.certificate());

    let last = machines[1].last_identity(&scene);
    let document = next(&scene, &[OPERATOR], |document| drop(document.roots.remove(0)));
    assert_eq!(
        apply(&mut scene, document.clone(), TrustOverrides::default()),
        Err("BH-C173"),
        "it may return"
    );
    apply(&mut scene, document, TrustOverrides { nodes: true, ..TrustOverrides::default() }).unwrap();
    let link = scene.connect_as(last);
    assert!(scene.closed.contains(&(link, CloseReason::Expired)), "the old root does not vouch any more");
}

#[test]
fn a_restored_coordinator_reissues_nothing_before_it_is_accepted() {
    let (mut scene, machines) = overlapping(1);
    scene.persist(crate::Event::restored(scene.now.wall));
    let mut scene = scene.restarted_as(moved);
    let link = scene.online(&machines[0]);
    settle(&mut scene);
    let sent = |message: &ToNode| matches!(message, ToNode::Certificate { .. });
    assert!(!scene.inbox[&link].iter().any(sent));
}
