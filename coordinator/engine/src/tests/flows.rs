//! Live flows: every connected node is asked, each flow is told once, and nobody waits longer than two seconds.

use super::scene::Scene;
use crate::asks::MAX_ASKS;
use crate::timing::ANSWER_WINDOW;
use crate::{AdminCall, Command, ConnectionId, Reply};
use bulkhead_acl::Service;
use bulkhead_identity::NodeName;
use bulkhead_protocol::admin::LiveFlows;
use bulkhead_protocol::control::{FlowReport, ToCoordinator, ToNode};

impl Scene {
    fn ask(&mut self) -> Option<LiveFlows> {
        self.call(AdminCall::Flows).map(answer)
    }

    fn tell(&mut self, link: ConnectionId, flows: &[(&str, bool, &str)]) -> Option<LiveFlows> {
        let asked = self.inbox[&link].iter().rev().find_map(|message| match message {
            ToNode::WantFlows { ask } => Some(*ask),
            _ => None,
        });
        let report = |(peer, outbound, service): &(&str, bool, &str)| FlowReport {
            peer: NodeName::parse(peer).unwrap(),
            outbound: *outbound,
            service: Service::parse(service).unwrap(),
        };
        let flows = flows.iter().map(report).collect();
        let message = ToCoordinator::Flows { ask: asked.unwrap(), flows, truncated: false };
        let (arrived_ms, entropy) = (0, self.entropy());
        let command = Command::Message { connection: link, message: Box::new(message), arrived_ms, entropy };
        self.handle(command).map(answer)
    }
}

fn answer(reply: Reply) -> LiveFlows {
    match reply {
        Reply::Flows(flows) => flows,
        Reply::Refused(refusal) => panic!("{refusal}"),
        _ => panic!("another reply"),
    }
}

fn lines(answer: &LiveFlows) -> Vec<String> {
    answer.flows.iter().map(|flow| format!("{} {} {}", flow.from, flow.to, flow.service)).collect()
}

#[test]
fn both_ends_tell_of_one_flow_and_it_is_told_once() {
    let mut scene = Scene::new();
    let (db, web) = (scene.node("db", ""), scene.node("web", ""));
    let (db, web) = (scene.online(&db), scene.online(&web));
    assert!(scene.ask().is_none());
    assert!(scene.tell(db, &[("web", false, "tcp/5432")]).is_none());
    let answer = scene.tell(web, &[("db", true, "tcp/5432"), ("db", true, "icmp")]).unwrap();
    assert_eq!(lines(&answer), ["web db icmp", "web db tcp/5432"]);
    assert!(answer.silent.is_empty() && !answer.truncated);
}

#[test]
fn the_silent_are_named_when_the_time_is_over() {
    let mut scene = Scene::new();
    let (db, web) = (scene.node("db", ""), scene.node("web", ""));
    let (db, _) = (scene.online(&db), scene.online(&web));
    let asked = scene.now.mono;
    scene.ask();
    assert_eq!(scene.coordinator.next_timeout(), asked + ANSWER_WINDOW);
    scene.tell(db, &[("web", false, "tcp/1")]);
    scene.wait(ANSWER_WINDOW);
    let answer = answer(scene.handle(Command::Tick).unwrap());
    assert_eq!((lines(&answer), answer.silent), (vec!["web db tcp/1".to_owned()], vec!["web".to_owned()]));
}

#[test]
fn nodes_that_are_not_connected_are_named_as_not_asked() {
    let mut scene = Scene::new();
    let (db, _) = (scene.node("db", ""), scene.node("web", ""));
    let link = scene.online(&db);
    scene.ask();
    let answer = scene.tell(link, &[]).unwrap();
    assert_eq!((answer.unasked, answer.silent), (vec!["web".to_owned()], Vec::new()));
}

#[test]
fn a_node_cannot_speak_for_others_nor_invent_them() {
    let mut scene = Scene::new();
    let (web, _) = (scene.node("web", ""), scene.node("db", ""));
    let link = scene.online(&web);
    scene.ask();
    let told = [("nobody", true, "tcp/1"), ("web", true, "tcp/1"), ("db", false, "tcp/2")];
    assert_eq!(lines(&scene.tell(link, &told).unwrap()), ["db web tcp/2"]);
}

#[test]
fn answers_that_come_twice_or_late_change_nothing() {
    let mut scene = Scene::new();
    let (db, web) = (scene.node("db", ""), scene.node("web", ""));
    let (db, web) = (scene.online(&db), scene.online(&web));
    scene.ask();
    assert!(scene.tell(db, &[]).is_none());
    assert!(scene.tell(db, &[("web", true, "tcp/1")]).is_none());
    assert!(lines(&scene.tell(web, &[]).unwrap()).is_empty());
    assert!(scene.tell(web, &[("db", true, "tcp/1")]).is_none());
}

#[test]
fn nobody_connected_is_an_answer_at_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.ask().unwrap(), LiveFlows::default());
    // A link that may be told nothing is silent.
    let web = scene.node("web", "");
    scene.connect(&web);
    assert_eq!(scene.ask().unwrap().silent, ["web"]);
}

#[test]
fn questions_are_bounded() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    scene.online(&web);
    for _ in 0..MAX_ASKS {
        assert!(scene.ask().is_none());
    }
    assert_eq!(scene.admin(AdminCall::Flows).err().unwrap().code, "BH-C183");
    scene.wait(ANSWER_WINDOW);
    scene.tick();
    assert!(scene.ask().is_none());
}

#[test]
fn a_node_that_goes_away_is_silent_and_does_not_hold_up_others_for_ever() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    let link = scene.online(&web);
    scene.ask();
    scene.handle(Command::Disconnected { connection: link });
    scene.wait(ANSWER_WINDOW);
    assert_eq!(answer(scene.handle(Command::Tick).unwrap()).silent, ["web"]);
}
