//! Laws that hold after any sequence of commands.

use super::scene::{Machine, Scene, rule, web_to_db};
use crate::{AdminCall, Command, ConnectionId, NodeRecord, State};
use bulkhead_acl::{SignedBundle, Sources, Subject};
use bulkhead_identity::{CertificateRequest, Generation, Labels, NodeName};
use bulkhead_protocol::admin::{Confirm, CreateToken, PolicyText, Revoke};
use bulkhead_protocol::control::{ToCoordinator, ToNode};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;
use zeroize::Zeroizing;

/// One thing that may happen. Numbers choose among what exists, modulo its count.
#[derive(Clone, Debug)]
enum Step {
    Token { role: usize, uses: u32 },
    Join { token: usize, name: usize },
    Connect(usize),
    Disconnect(usize),
    Acknowledge(usize),
    Snapshot(usize),
    Renew(usize),
    Leave(usize),
    Label { node: usize, role: usize },
    Revoke(usize),
    Remove(usize),
    Apply(usize),
    TryOut(usize),
    Confirm,
    Rollback(u64),
    Wait(u64),
}

const ROLES: [&str; 3] = ["web", "db", "other"];

fn policies(number: usize) -> Sources {
    match number % 6 {
        0 => web_to_db(),
        1 => rule("mesh", "*", "*", ""),
        2 => rule("named", "node:n1", "role=db", ""),
        3 => rule("to-its-like", "*", "*", "same = [\"role\"]"),
        // Soon over: the scene begins at 08:00.
        4 => rule("for-an-hour", "role=web", "*", "until = 2027-01-15T09:00:00Z"),
        _ => {
            Sources(std::collections::BTreeMap::from([("main.toml".to_owned(), "version = 1\n".to_owned())]))
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0usize..16;
    prop_oneof![
        3 => (0..ROLES.len(), 1u32..3).prop_map(|(role, uses)| Step::Token { role, uses }),
        6 => (index.clone(), 0usize..6).prop_map(|(token, name)| Step::Join { token, name }),
        6 => index.clone().prop_map(Step::Connect),
        1 => index.clone().prop_map(Step::Disconnect),
        2 => index.clone().prop_map(Step::Acknowledge),
        1 => index.clone().prop_map(Step::Snapshot),
        2 => index.clone().prop_map(Step::Renew),
        1 => index.clone().prop_map(Step::Leave),
        2 => (index.clone(), 0..ROLES.len()).prop_map(|(node, role)| Step::Label { node, role }),
        2 => index.clone().prop_map(Step::Revoke),
        1 => index.clone().prop_map(Step::Remove),
        2 => index.clone().prop_map(Step::Apply),
        1 => index.prop_map(Step::TryOut),
        1 => Just(Step::Confirm),
        1 => (0u64..6).prop_map(Step::Rollback),
        2 => (0u64..7200).prop_map(Step::Wait),
        1 => Just(Step::Wait(90_000)),
    ]
}

#[derive(Default)]
struct World {
    tokens: Vec<Zeroizing<[u8; 32]>>,
    machines: Vec<Machine>,
    links: Vec<(usize, ConnectionId)>,
}

impl World {
    fn perform(&mut self, step: Step, scene: &mut Scene) {
        let pick = |number: usize, count: usize| number.checked_rem(count);
        let link = |world: &Self, number| pick(number, world.links.len()).map(|at| world.links[at]);
        match step {
            Step::Token { role, uses } => {
                let labels = Labels::parse(&format!("role={}", ROLES[role])).unwrap();
                let create = CreateToken { labels, uses: Some(uses), ..CreateToken::default() };
                self.tokens.push(scene.token(create));
            }
            Step::Join { token, name } => {
                let Some(token) = pick(token, self.tokens.len()) else { return };
                self.machines.extend(scene.join(&*self.tokens[token], Some(&format!("n{name}"))).ok());
            }
            Step::Connect(number) => {
                let Some(machine) = pick(number, self.machines.len()) else { return };
                if self.machines[machine].chain != scene.current_chain(&self.machines[machine]) {
                    return;
                }
                let link = scene.online(&self.machines[machine]);
                self.links.push((machine, link));
            }
            Step::Disconnect(number) => {
                let Some((_, connection)) = link(self, number) else { return };
                scene.handle(Command::Disconnected { connection });
            }
            Step::Acknowledge(number) => {
                let Some((machine, connection)) = link(self, number) else { return };
                scene.acknowledge(&self.machines[machine], connection);
            }
            Step::Snapshot(number) => {
                let Some((_, connection)) = link(self, number) else { return };
                scene.say(connection, ToCoordinator::WantSnapshot);
            }
            Step::Renew(number) => {
                let Some((machine, connection)) = link(self, number) else { return };
                scene.say(connection, ToCoordinator::RenewBegin);
                let last = scene.inbox.get(&connection).and_then(|inbox| inbox.last());
                let Some(ToNode::RenewChallenge { challenge, key }) = last else { return };
                let machine = &self.machines[machine];
                let request = CertificateRequest::create(&machine.identity, &machine.tunnel, challenge, key);
                scene.say(connection, ToCoordinator::RenewFinish { request });
            }
            Step::Leave(number) => {
                let Some((_, connection)) = link(self, number) else { return };
                scene.say(connection, ToCoordinator::Leave);
            }
            Step::Label { node, role } => {
                let Some(node) = pick(node, self.machines.len()) else { return };
                let _ = scene.label(&self.machines[node].name, "role", Some(ROLES[role]));
            }
            Step::Revoke(number) => {
                let Some(node) = pick(number, self.machines.len()) else { return };
                let revoke = Revoke { reason: "test".to_owned() };
                let _ = scene.admin(AdminCall::NodeRevoke(self.machines[node].name.clone(), revoke));
            }
            Step::Remove(number) => {
                let Some(node) = pick(number, self.machines.len()) else { return };
                let _ = scene.admin(AdminCall::NodeRemove(self.machines[node].name.clone()));
            }
            Step::Apply(number) => {
                let _ = scene.propose(PolicyText { sources: policies(number), ..PolicyText::default() });
            }
            Step::TryOut(number) => {
                let (sources, confirm_within) = (policies(number), Some(3600));
                let _ = scene.propose(PolicyText { sources, confirm_within, ..PolicyText::default() });
            }
            Step::Confirm => {
                let generation = scene.policy().generation;
                let expected = scene.policy().pending.map(|pending| pending.waiting);
                let confirm = Confirm { generation, without: expected.unwrap_or_default() };
                scene.call(AdminCall::PolicyConfirm(confirm));
            }
            Step::Rollback(generation) => {
                let _ = scene.rollback(generation);
            }
            Step::Wait(seconds) => {
                scene.wait(Duration::from_secs(seconds));
                scene.tick();
            }
        }
    }
}

impl Scene {
    fn current_chain(&self, machine: &Machine) -> bulkhead_identity::Chain {
        let node = self.coordinator.state().nodes.get(&machine.name);
        let current = node.filter(|node| node.certificate.not_after > self.now.wall);
        current.map_or_else(
            || bulkhead_identity::Chain::new(vec![vec![0]]).unwrap(),
            |n| n.certificate.chain.clone(),
        )
    }

    /// No open link holds a node that is revoked, gone, or not among those that may talk to it, and once
    /// nothing is due each holds exactly its complete map, and its slice of the policy in force.
    fn check_maps(&mut self) {
        let open: Vec<_> = self.coordinator.links.following().map(|(c, n)| (c, n.clone())).collect();
        for (connection, name) in &open {
            for peer in self.map(*connection).peers.values() {
                let node = &self.coordinator.state().nodes.get(&peer.name);
                assert!(node.is_some_and(|node| node.is_active()), "{name} sees {}", peer.name);
                assert_ne!(peer.name, *name);
            }
        }
        self.wait(Duration::from_secs(1));
        self.tick();
        for (connection, name) in open {
            let map = self.map(connection).peers;
            assert_eq!(map, self.coordinator.map_of(&name, self.now), "map of {name}");
            assert_eq!(
                map.keys().cloned().collect::<BTreeSet<_>>(),
                self.peers_from_scratch(&name),
                "{name}"
            );
            assert_eq!(self.slice(connection), self.slice_from_scratch(&name).as_deref(), "slice of {name}");
        }
    }

    /// From the rules and the registry, without any index.
    fn peers_from_scratch(&self, name: &NodeName) -> BTreeSet<NodeName> {
        let (state, wall) = (self.coordinator.state(), self.now.wall);
        let rules = self.coordinator.reach.rules().rules();
        let subject =
            |name: &NodeName| Subject { name: name.clone(), labels: state.nodes[name].labels.clone() };
        let me = subject(name);
        let may = |peer: &&NodeRecord| {
            let them = subject(&peer.name);
            let admitted = peer.is_active() && peer.certificate.not_after > wall && peer.name != *name;
            admitted && (rules.may_ever(&me, &them, wall) || rules.may_ever(&them, &me, wall))
        };
        state.nodes.values().filter(may).map(|peer| peer.name.clone()).collect()
    }

    fn slice_from_scratch(&self, name: &NodeName) -> Option<Vec<u8>> {
        let state = self.coordinator.state();
        let (policy, trust) = (state.policy()?, self.coordinator.trust());
        let bundle = SignedBundle::verify(&policy.bundle, trust, Generation(0), policy.time).unwrap();
        let labels = state.nodes[name].labels.clone();
        Some(bundle.slice(&Subject { name: name.clone(), labels }))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_replays_and_no_map_shows_a_revoked_node(steps in proptest::collection::vec(step(), 1..60)) {
        let mut scene = Scene::new();
        let mut world = World::default();
        for step in steps {
            world.perform(step, &mut scene);
            scene.check_maps();
        }
        let state = scene.coordinator.state();
        let mut replayed = State::default();
        for event in &scene.journal {
            let encoded = minicbor::to_vec(event).unwrap();
            replayed.replay(&minicbor::decode(&encoded).unwrap()).unwrap();
        }
        prop_assert_eq!(&replayed, state);
        let snapshot = minicbor::to_vec(state).unwrap();
        prop_assert_eq!(&minicbor::decode::<State>(&snapshot).unwrap(), state);
        for token in state.tokens.values() {
            prop_assert!(token.uses_left <= token.uses);
        }
        let active: Vec<_> = state.nodes.values().filter(|node| node.is_active()).collect();
        let keys: BTreeSet<_> = active.iter().map(|node| node.tunnel_key).collect();
        prop_assert_eq!(keys.len(), active.len());
    }

    #[test]
    fn an_event_that_contradicts_the_state_changes_nothing(steps in proptest::collection::vec(step(), 1..30), at: prop::sample::Index) {
        let mut scene = Scene::new();
        let mut world = World::default();
        for step in steps {
            world.perform(step, &mut scene);
        }
        let mut state = scene.coordinator.state().clone();
        let again = &scene.journal[at.index(scene.journal.len())];
        if state.replay(again).is_err() {
            prop_assert_eq!(&state, scene.coordinator.state());
        }
    }

    #[test]
    fn any_bytes_are_a_state_an_event_or_refused(bytes: Vec<u8>) {
        let _ = minicbor::decode::<State>(&bytes);
        let _ = minicbor::decode::<crate::Event>(&bytes);
    }
}
