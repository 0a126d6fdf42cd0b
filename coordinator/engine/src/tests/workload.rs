//! Workloads: rules map their claims to labels, and they are nobody's.

use super::people::{Device, HOUR, person};
use super::renewal::renew;
use super::scene::{LIFETIME, Machine, Scene, name, rule};
use crate::workload::{ENROLMENT_WINDOW, MAX_ENROLMENTS};
use crate::{Claims, Class, Command, Refusal, Reply, RequestId};
use bulkhead_identity::Chain;
use std::collections::{BTreeMap, BTreeSet};

fn pipeline(repository: &str) -> Claims {
    Claims {
        provider: "ci".to_owned(),
        issuer: "https://ci.example".to_owned(),
        subject: format!("repo:{repository}:ref:refs/heads/main"),
        name: String::new(),
        groups: BTreeSet::new(),
        other: BTreeMap::from([("repository".to_owned(), vec![repository.to_owned()])]),
    }
}

fn enrol(scene: &mut Scene, device: Device, claims: Claims, wish: &str) -> Result<Machine, Refusal> {
    let (enrolment, certificate_request) = scene.request_of(&device);
    let (claims, name, source) = (Box::new(claims), Some(wish.to_owned()), "192.0.2.77".parse().unwrap());
    let (request, entropy) = (RequestId(1), scene.entropy());
    let command =
        Command::EnrolWorkload { request, enrolment, certificate_request, claims, name, source, entropy };
    match scene.handle(command).unwrap() {
        Reply::Enrolled(enrolled) => {
            let (name, chain) = (super::scene::name(&enrolled.name), Chain::decode(&enrolled.chain).unwrap());
            Ok(Machine { identity: device.identity, tunnel: device.tunnel, name, chain })
        }
        Reply::Refused(refusal) => Err(refusal),
        _ => panic!("another reply"),
    }
}

#[test]
fn a_workload_is_what_the_rules_say_of_its_claims_and_renews_without_anybody() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let job = enrol(&mut scene, device, pipeline("acme/app"), "job-1").unwrap();
    let node = scene.record(&job);
    assert_eq!((node.labels.to_string().as_str(), &node.owner), ("role=web", &None));
    assert_eq!(node.certificate.not_after, scene.now.wall.plus(LIFETIME));
    let audit = scene.journal.last().unwrap().audit();
    assert_eq!(audit.detail["workload"]["subject"], "repo:acme/app:ref:refs/heads/main");
    let link = scene.online(&job);
    scene.wait(13 * HOUR);
    assert!(renew(&mut scene, link, &job.identity, &job.tunnel));
}

#[test]
fn another_repository_is_nobody() {
    let mut scene = Scene::staffed();
    for stranger in [
        pipeline("evil/app"),
        pipeline("acme/app2"),
        Claims { provider: "acme".to_owned(), ..pipeline("acme/app") },
    ] {
        let device = scene.device();
        let refusal = enrol(&mut scene, device, stranger, "job-1").err().unwrap();
        assert_eq!((refusal.class, refusal.code), (Class::Forbidden, "BH-C205"));
    }
    assert!(scene.coordinator.state().nodes.is_empty());
}

#[test]
fn a_name_that_the_policy_speaks_of_is_for_an_administrator_to_give() {
    let mut scene = Scene::staffed();
    scene.apply(rule("backups", "node:backup", "*", ""));
    let device = scene.device();
    let refusal = enrol(&mut scene, device, pipeline("acme/app"), "backup").err().unwrap();
    assert_eq!((refusal.class, refusal.code), (Class::Forbidden, "BH-C231"));
    let device = scene.device();
    assert!(enrol(&mut scene, device, pipeline("acme/app"), "job").is_ok());
}

#[test]
fn one_workload_has_so_many_nodes_and_joins_so_often() {
    let mut scene = Scene::staffed();
    let join = |scene: &mut Scene, number: u32| {
        let device = scene.device();
        enrol(scene, device, pipeline("acme/app"), &format!("job-{number}")).map_err(|refusal| refusal.code)
    };
    let first = join(&mut scene, 0).unwrap();
    for number in 1..MAX_ENROLMENTS {
        join(&mut scene, number).unwrap();
    }
    assert_eq!(join(&mut scene, 5000).err(), Some("BH-C232"), "nodes");
    scene.revoke(&first);
    assert_eq!(join(&mut scene, 5000).err(), Some("BH-C233"), "in one hour");
    let device = scene.device();
    let other = Claims { subject: "repo:acme/app:ref:refs/heads/other".to_owned(), ..pipeline("acme/app") };
    assert!(enrol(&mut scene, device, other, "other").is_ok(), "another has its own");
    scene.wait(ENROLMENT_WINDOW);
    scene.tick();
    assert!(join(&mut scene, 5000).is_ok());
    assert_eq!(scene.restarted(scene.journal.len()).coordinator.state(), scene.coordinator.state());
}

#[test]
fn d13_a_workload_takes_neither_name_nor_keys_of_another_and_waits_for_nobody() {
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    let device = scene.device();
    assert_eq!(enrol(&mut scene, device, pipeline("acme/app"), "laptop").err().unwrap().code, "BH-C105");
    let device = Device { identity: scene.device().identity, tunnel: laptop.tunnel };
    assert_eq!(enrol(&mut scene, device, pipeline("acme/app"), "job-1").err().unwrap().code, "BH-C106");
    let device = scene.device();
    let contractor = person("u-3", &["contractors"]);
    assert_eq!(enrol(&mut scene, device, contractor, "job-1").err().unwrap().code, "BH-C230");
    assert!(!scene.coordinator.state().nodes.contains_key(&name("job-1")));
}
