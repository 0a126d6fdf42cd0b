//! G9: refusals are written down with who and from where, and never more than so many a minute.

use super::people::{BROWSER, person};
use super::scene::Scene;
use crate::{
    Actor, Change, Command, Event, MAX_ADMINISTRATOR_REFUSALS, MAX_PERSON_REFUSALS, MAX_STRANGER_REFUSALS,
    REFUSAL_WINDOW, RequestId,
};
use std::net::IpAddr;

fn refuse(scene: &mut Scene, actor: Actor, times: u32) {
    for time in 0..times {
        // Another address each time: the budget is over all of them.
        let source = Some(IpAddr::from(time.to_be_bytes()));
        let (actor, request) = (actor.clone(), RequestId(1));
        let (what, code, why) = ("GET /api/v1/nodes".to_owned(), "BH-C001".to_owned(), "é".repeat(300));
        scene.handle(Command::Refused { request, actor, source, what, code, why });
    }
}

fn recorded(scene: &Scene) -> usize {
    scene.journal.iter().filter(|event| matches!(event.change, Change::Refused { .. })).count()
}

fn counts(scene: &Scene) -> Vec<(u64, u64)> {
    let count = |event: &Event| match event.change {
        Change::RefusalsCounted { strangers, administrators, .. } => Some((strangers, administrators)),
        _ => None,
    };
    scene.journal.iter().filter_map(count).collect()
}

#[test]
fn what_is_refused_is_written_down_and_changes_nothing() {
    let mut scene = Scene::new();
    let before = scene.coordinator.state().clone();
    refuse(&mut scene, Actor::Stranger, 1);
    let event = scene.journal.last().unwrap();
    assert_eq!((&event.actor, event.source), (&Actor::Stranger, Some(IpAddr::from([0, 0, 0, 0]))));
    let Change::Refused { why, .. } = &event.change else { panic!("another event") };
    assert!(why.len() <= 256 && why.chars().all(|c| c == 'é'));
    assert_eq!(scene.coordinator.state(), &before);
}

#[test]
fn a_flood_is_counted_and_the_count_is_one_entry() {
    let mut scene = Scene::new();
    refuse(&mut scene, Actor::Stranger, MAX_STRANGER_REFUSALS + 40);
    assert_eq!((recorded(&scene), counts(&scene)), (MAX_STRANGER_REFUSALS as usize, vec![]));
    scene.wait(REFUSAL_WINDOW);
    assert!(scene.coordinator.next_timeout() <= scene.now.mono);
    scene.tick();
    assert_eq!(counts(&scene), [(40, 0)]);
    // The next minute has a budget of its own, and without a flood there is nothing to count.
    refuse(&mut scene, Actor::Stranger, 1);
    scene.wait(REFUSAL_WINDOW);
    scene.tick();
    assert_eq!((recorded(&scene), counts(&scene).len()), (MAX_STRANGER_REFUSALS as usize + 1, 1));
}

#[test]
fn strangers_do_not_use_up_what_administrators_have() {
    let mut scene = Scene::new();
    refuse(&mut scene, Actor::Stranger, MAX_STRANGER_REFUSALS + 1);
    let ann = Actor::Admin { name: "ann".to_owned() };
    refuse(&mut scene, ann, MAX_ADMINISTRATOR_REFUSALS + 2);
    assert_eq!(recorded(&scene), (MAX_STRANGER_REFUSALS + MAX_ADMINISTRATOR_REFUSALS) as usize);
    scene.wait(REFUSAL_WINDOW);
    refuse(&mut scene, Actor::Stranger, 1);
    assert_eq!(counts(&scene), [(1, 2)], "also without a tick in between");
}

/// Of refusals on pages: who, from where, code and words.
fn on_pages(scene: &Scene) -> Vec<(String, Option<IpAddr>, String, String)> {
    let of_pages = |event: &Event| match &event.change {
        Change::Refused { what, code, why } if what.starts_with("sign-in: ") => {
            Some((event.actor.to_string(), event.source, code.clone(), why.clone()))
        }
        _ => None,
    };
    scene.journal.iter().filter_map(of_pages).collect()
}

#[test]
fn refusals_on_pages_are_written_down_with_who_and_from_where() {
    let mut scene = Scene::staffed();
    let nobody = person("u-2", &["chess"]);
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    scene.preview(&begun.user_code, &nobody).unwrap_err();
    scene.confirm(&begun.user_code, &nobody).unwrap_err();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    let (user_code, claims) = (begun.user_code, Box::new(person("u-1", &["engineering"])));
    scene.handle(Command::SignInRefuse {
        request: RequestId(1),
        user_code,
        claims: Some(claims),
        source: BROWSER,
    });
    for _ in 0..5 {
        scene.look("BCDF-GHJK", BROWSER).unwrap_err();
    }
    assert_eq!(on_pages(&scene).len(), 3, "whoever mistypes is not refused yet");
    scene.look("BCDF-GHJK", BROWSER).unwrap_err();
    let all = on_pages(&scene);
    let (who, codes): (Vec<_>, Vec<_>) =
        all.iter().map(|(who, source, code, _)| ((who.as_str(), *source), code.as_str())).unzip();
    let from = Some(BROWSER);
    let (u1, u2) = (("person:acme/u-1 (Ada)", from), ("person:acme/u-2 (Ada)", from));
    assert_eq!(who, [u2, u2, u1, ("stranger", from)]);
    assert_eq!(codes, ["BH-C205", "BH-C205", "BH-C204", "BH-C203"]);
    assert!(all[2].3.contains("machine laptop") && all[2].3.contains("192.0.2.9"), "{all:?}");
}

#[test]
fn people_do_not_use_up_what_administrators_have() {
    let mut scene = Scene::new();
    let ada = Actor::person(&person("u-1", &[]));
    refuse(&mut scene, ada, MAX_PERSON_REFUSALS + 3);
    refuse(&mut scene, Actor::Admin { name: "ann".to_owned() }, MAX_ADMINISTRATOR_REFUSALS);
    assert_eq!(recorded(&scene), (MAX_PERSON_REFUSALS + MAX_ADMINISTRATOR_REFUSALS) as usize);
    scene.wait(REFUSAL_WINDOW);
    scene.tick();
    assert_eq!(scene.journal.last().unwrap().audit().detail["people"], 3);
}

#[test]
fn acts_and_enrolments_carry_the_address_they_came_from() {
    let mut scene = Scene::new();
    scene.node("web", "role=web");
    let sources: Vec<_> = scene.journal.iter().map(|event| event.source).collect();
    assert_eq!(sources.last(), Some(&Some(IpAddr::from([192, 0, 2, 9]))));
    assert_eq!(sources[0], None);
}

#[test]
fn an_event_from_before_there_were_sources_is_read() {
    let mut scene = Scene::new();
    scene.node("web", "role=web");
    for event in &scene.journal {
        let mut old = minicbor::to_vec((event.time, &event.actor, &event.change)).unwrap();
        let read: Event = minicbor::decode(&old).unwrap();
        assert_eq!((&read.change, read.source), (&event.change, None));
        old.clear();
    }
}
