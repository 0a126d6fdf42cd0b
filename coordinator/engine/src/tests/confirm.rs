//! Commit-confirm: whatever keeps a policy from being confirmed, it goes back; and what was confirmed stays. Drills
//! are repeated from every point of the journal: a kill -9 keeps some prefix of it, and nothing else.

use super::scene::{Machine, START, Scene, rule, web_to_db};
use crate::timing::{ANSWER_WINDOW, MAX_CONFIRM_WITHIN, MIN_CONFIRM_WITHIN};
use crate::{AdminCall, Change, Command, ConnectionId, Event, Refusal, Reply, State};
use bulkhead_acl::Sources;
use bulkhead_identity::{Epoch, Generation};
use bulkhead_protocol::admin::{Applied, Confirm, PolicyText};
use bulkhead_protocol::control::{ToCoordinator, ToNode};
use proptest::prelude::*;
use std::time::Duration;

pub(super) const WINDOW: Duration = Duration::from_secs(300);
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn after() -> Sources {
    rule("after", "role=web", "role=other", "")
}

/// A deployment of two connected nodes with [`web_to_db`] in force as generation 1.
pub(super) struct Drill {
    pub(super) scene: Scene,
    machines: Vec<Machine>,
    pub(super) links: Vec<ConnectionId>,
}

impl Drill {
    pub(super) fn new() -> Self {
        let mut scene = Scene::new();
        let machines = vec![scene.node("db", "role=db"), scene.node("web", "role=web")];
        scene.apply(web_to_db());
        let links = machines.iter().map(|machine| scene.online(machine)).collect();
        let mut drill = Self { scene, machines, links };
        drill.acknowledge();
        drill
    }

    /// With [`after`] in force as generation 2, to be confirmed.
    pub(super) fn pending() -> Self {
        let mut drill = Self::new();
        drill.apply(after(), WINDOW).unwrap();
        drill
    }

    pub(super) fn apply(&mut self, sources: Sources, within: Duration) -> Result<Applied, Refusal> {
        let confirm_within = Some(within.as_secs());
        self.scene.propose(PolicyText { sources, confirm_within, ..PolicyText::default() })
    }

    fn acknowledge(&mut self) {
        for (machine, link) in self.machines.iter().zip(&self.links) {
            self.scene.acknowledge(machine, *link);
        }
    }

    pub(super) fn reconnect(&mut self) {
        self.links = self.machines.iter().map(|machine| self.scene.online(machine)).collect();
        self.acknowledge();
    }

    pub(super) fn restart(&mut self) {
        self.scene = self.scene.restarted(self.scene.journal.len());
    }

    /// Confirms while every node that is connected answers.
    fn confirm(&mut self, generation: u64, without: &[&str]) -> Result<u64, Refusal> {
        let mut reply = self.confirm_only(generation, without);
        for link in self.links.clone() {
            reply = reply.or(self.scene.say_for(link, sign_of_life));
        }
        match reply.unwrap() {
            Reply::Applied(applied) => Ok(applied.generation),
            Reply::Refused(refusal) => Err(refusal),
            _ => panic!("another reply"),
        }
    }

    /// Confirms while nobody answers.
    fn confirm_only(&mut self, generation: u64, without: &[&str]) -> Option<Reply> {
        let without = without.iter().map(|name| (*name).to_owned()).collect();
        self.scene.call(AdminCall::PolicyConfirm(Confirm { generation, without }))
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.scene.wait(time);
        self.scene.tick();
    }

    pub(super) fn has_gone_back(&mut self, to: &Sources) {
        let current = self.scene.policy();
        assert_eq!((&current.sources, &current.pending), (to, &None));
        let record = self.scene.coordinator.state().policy().unwrap();
        assert_eq!(record.author, "system");
        assert!(record.message.starts_with("back to generation"), "{}", record.message);
        self.replays();
    }

    fn stays(&mut self, sources: &Sources) {
        self.wait(2 * MAX_CONFIRM_WITHIN);
        let current = self.scene.policy();
        assert_eq!((&current.sources, &current.pending), (sources, &None));
        self.replays();
    }

    /// The journal adds up to the state, by way of bytes.
    fn replays(&self) {
        let mut replayed = State::default();
        for event in &self.scene.journal {
            replayed.replay(&minicbor::decode(&minicbor::to_vec(event).unwrap()).unwrap()).unwrap();
        }
        assert_eq!(&replayed, self.scene.coordinator.state());
        let snapshot = minicbor::to_vec(&replayed).unwrap();
        assert_eq!(minicbor::decode::<State>(&snapshot).unwrap(), replayed);
    }
}

/// The answer to the last question on a link, if there was one.
fn sign_of_life(inbox: &[ToNode]) -> Option<ToCoordinator> {
    let ToNode::WantFlows { ask } = inbox.last()? else { return None };
    Some(ToCoordinator::Flows { ask: *ask, flows: Vec::new(), truncated: false })
}

#[test]
fn what_nobody_confirms_goes_back_to_the_second() {
    let mut drill = Drill::pending();
    let pending = drill.scene.policy().pending.unwrap();
    assert_eq!((pending.generation, pending.back_to), (2, 1));
    assert_eq!(pending.confirm_by, START.plus(WINDOW));
    drill.wait(WINDOW - SECOND);
    assert_eq!(drill.scene.policy().sources, after());
    assert!(drill.scene.coordinator.next_timeout() <= drill.scene.now.mono + SECOND);
    drill.wait(SECOND);
    drill.has_gone_back(&web_to_db());
    assert_eq!(drill.scene.policy().generation, 3);
    // The nodes hear of it.
    for link in drill.links.clone() {
        assert_eq!(drill.scene.generation(link), Generation(3));
    }
}

#[test]
fn what_is_confirmed_stays() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    assert_eq!(drill.confirm(2, &[]).unwrap(), 2);
    drill.stays(&after());
}

#[test]
fn what_is_confirmed_stays_after_a_restart() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    drill.confirm(2, &[]).unwrap();
    drill.restart();
    drill.stays(&after());
}

#[test]
fn it_goes_back_when_the_coordinator_was_down_at_the_deadline() {
    let mut drill = Drill::pending();
    drill.scene.wait(2 * WINDOW);
    drill.restart();
    // At the first tick, which is due at once.
    assert!(drill.scene.coordinator.next_timeout() <= drill.scene.now.mono);
    drill.scene.tick();
    drill.has_gone_back(&web_to_db());
}

#[test]
fn it_goes_back_when_the_coordinator_was_killed_in_the_window() {
    let mut drill = Drill::pending();
    drill.wait(WINDOW / 2);
    drill.restart();
    drill.wait(WINDOW / 2 - SECOND);
    assert_eq!(drill.scene.policy().sources, after());
    drill.wait(SECOND);
    drill.has_gone_back(&web_to_db());
}

#[test]
fn it_goes_back_when_the_coordinator_is_killed_again_and_again() {
    let mut drill = Drill::pending();
    for _ in 0..10 {
        drill.wait(WINDOW / 10);
        drill.restart();
    }
    drill.scene.tick();
    drill.has_gone_back(&web_to_db());
}

#[test]
fn it_goes_back_when_a_node_does_not_come_back() {
    let mut drill = Drill::pending();
    drill.scene.handle(Command::Disconnected { connection: drill.links[1] });
    drill.scene.acknowledge(&drill.machines[0], drill.links[0]);
    let refusal = drill.confirm(2, &[]).unwrap_err();
    assert_eq!(refusal.code, "BH-C168");
    assert!(refusal.message.ends_with(": web") && refusal.help.unwrap().contains("--without"));
    drill.wait(WINDOW);
    drill.has_gone_back(&web_to_db());
    assert!(drill.scene.coordinator.state().policy().unwrap().message.contains("had not come back: web"));
}

#[test]
fn a_link_that_the_policy_cut_unnoticed_does_not_count() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    // Both links look alive. One of them carries nothing any more.
    assert!(drill.confirm_only(2, &[]).is_none());
    drill.scene.say_for(drill.links[0], sign_of_life);
    drill.scene.wait(ANSWER_WINDOW);
    let Some(Reply::Refused(refusal)) = drill.scene.handle(Command::Tick) else { panic!("confirmed") };
    assert_eq!(refusal.code, "BH-C168");
    assert!(refusal.message.ends_with(": web"), "{}", refusal.message);
    drill.wait(WINDOW);
    drill.has_gone_back(&web_to_db());
}

#[test]
fn what_goes_back_while_nodes_are_asked_is_not_confirmed() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    drill.wait(WINDOW - SECOND);
    assert!(drill.confirm_only(2, &[]).is_none());
    drill.wait(SECOND);
    drill.has_gone_back(&web_to_db());
    drill.scene.wait(SECOND);
    let Some(Reply::Refused(refusal)) = drill.scene.handle(Command::Tick) else { panic!("confirmed") };
    assert_eq!(refusal.code, "BH-C167");
    drill.stays(&web_to_db());
}

#[test]
fn a_connected_node_that_does_not_acknowledge_has_not_come_back() {
    let mut drill = Drill::pending();
    // What it acknowledged before does not count.
    assert_eq!(drill.confirm(2, &[]).unwrap_err().code, "BH-C168");
    assert_eq!(drill.scene.policy().pending.unwrap().waiting, ["db", "web"]);
    drill.scene.acknowledge(&drill.machines[0], drill.links[0]);
    assert_eq!(drill.scene.policy().pending.unwrap().waiting, ["web"]);
    drill.wait(WINDOW);
    drill.has_gone_back(&web_to_db());
}

#[test]
fn a_node_that_acknowledged_and_then_vanished_has_not_come_back() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    drill.scene.handle(Command::Disconnected { connection: drill.links[0] });
    assert_eq!(drill.confirm(2, &[]).unwrap_err().code, "BH-C168");
    drill.wait(WINDOW);
    drill.has_gone_back(&web_to_db());
}

#[test]
fn after_a_restart_the_nodes_have_to_come_back_once_more() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    drill.restart();
    assert_eq!(drill.confirm(2, &[]).unwrap_err().code, "BH-C168");
    drill.reconnect();
    drill.confirm(2, &[]).unwrap();
    drill.stays(&after());
}

#[test]
fn whose_silence_is_accepted_is_journalled() {
    let mut drill = Drill::pending();
    drill.scene.acknowledge(&drill.machines[0], drill.links[0]);
    drill.confirm(2, &["web"]).unwrap();
    let Some(Event { change: Change::PolicyConfirmed { generation, without }, .. }) =
        drill.scene.journal.last()
    else {
        panic!("no event")
    };
    assert_eq!((generation.0, without.len(), without[0].as_str()), (2, 1, "web"));
    let audit = drill.scene.journal.last().unwrap().audit();
    assert_eq!((audit.event.as_str(), &audit.detail["without"][0]), ("policy_confirmed", &"web".into()));
    drill.stays(&after());
}

#[test]
fn nobody_can_be_left_out_who_is_not_waited_for() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    assert_eq!(drill.confirm(2, &["wbe"]).unwrap_err().code, "BH-C003");
    drill.wait(WINDOW);
    drill.has_gone_back(&web_to_db());
}

#[test]
fn a_revoked_node_is_not_waited_for() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    drill.scene.revoke(&drill.machines[1]);
    drill.confirm(2, &[]).unwrap();
    drill.stays(&after());
}

#[test]
fn a_node_that_was_away_when_it_was_applied_is_not_waited_for() {
    let mut drill = Drill::new();
    drill.scene.handle(Command::Disconnected { connection: drill.links[1] });
    drill.apply(after(), WINDOW).unwrap();
    drill.scene.acknowledge(&drill.machines[0], drill.links[0]);
    drill.confirm(2, &[]).unwrap();
    drill.stays(&after());
}

#[test]
fn too_late_is_too_late_even_before_the_tick() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    drill.scene.wait(WINDOW);
    assert_eq!(drill.confirm(2, &[]).unwrap_err().code, "BH-C167");
    drill.scene.tick();
    drill.has_gone_back(&web_to_db());
}

#[test]
fn only_what_is_in_force_can_be_confirmed() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    for other in [0, 1, 3, u64::MAX] {
        assert_eq!(drill.confirm(other, &[]).unwrap_err().code, "BH-C167");
    }
    drill.wait(WINDOW);
    drill.has_gone_back(&web_to_db());
    // Neither what went back, nor what it went back to.
    assert_eq!(drill.confirm(2, &[]).unwrap_err().code, "BH-C167");
    assert_eq!(drill.confirm(3, &[]).unwrap_err().code, "BH-C167");
}

#[test]
fn nodes_that_claim_to_be_ahead_do_not_stop_it() {
    let mut drill = Drill::pending();
    for machine in 0..2 {
        let link = drill.scene.connect(&drill.machines[machine]);
        drill.scene.hello(link, 77, 0);
    }
    assert!(drill.scene.coordinator.read_only().is_some());
    drill.wait(WINDOW);
    drill.has_gone_back(&web_to_db());
}

#[test]
fn a_busy_coordinator_still_ticks() {
    let mut drill = Drill::pending();
    for _ in 0..2 * WINDOW.as_secs() {
        drill.scene.wait(Duration::from_millis(1500));
        drill.acknowledge();
        // What the rim does after every batch.
        if drill.scene.coordinator.next_timeout() <= drill.scene.now.mono {
            drill.scene.tick();
        }
    }
    drill.has_gone_back(&web_to_db());
}

#[test]
fn before_any_policy_there_is_the_empty_one_to_go_back_to() {
    let mut scene = Scene::new();
    let db = scene.node("db", "role=db");
    let links = vec![scene.online(&db)];
    let mut drill = Drill { scene, machines: vec![db], links };
    drill.apply(web_to_db(), WINDOW).unwrap();
    assert_eq!(drill.scene.policy().pending.unwrap().back_to, 0);
    drill.wait(WINDOW);
    drill.has_gone_back(&Sources::default());
    assert_eq!(drill.scene.policy().generation, 2);
}

#[test]
fn one_change_at_a_time() {
    let mut drill = Drill::pending();
    let other = PolicyText { sources: web_to_db(), ..PolicyText::default() };
    let refusal = drill.scene.propose(other).unwrap_err();
    assert_eq!(refusal.code, "BH-C166");
    let help = refusal.help.unwrap();
    assert!(help.contains("policy confirm") && help.contains("policy rollback 1"), "{help}");
    drill.wait(WINDOW);
    drill.has_gone_back(&web_to_db());
    assert!(drill.apply(after(), WINDOW).is_ok());
}

#[test]
fn a_rollback_to_anything_else_waits_its_turn() {
    let mut drill = Drill::new();
    drill.scene.apply(after());
    drill.scene.apply(web_to_db());
    drill.acknowledge();
    drill.apply(rule("fourth", "role=web", "role=other", ""), WINDOW).unwrap();
    for other in [1, 2, 4] {
        assert_eq!(drill.scene.rollback(other).unwrap_err().code, "BH-C166");
        assert_eq!(drill.scene.rollback_all_the_same(other).unwrap_err().code, "BH-C166");
    }
    assert_eq!(drill.scene.policy().pending.unwrap().back_to, 3);
    assert_eq!(drill.scene.rollback(3).unwrap().generation, 5);
}

#[test]
fn more_names_than_were_connected_are_not_even_looked_at() {
    let mut drill = Drill::pending();
    assert_eq!(drill.confirm(2, &["db", "db", "db"]).unwrap_err().code, "BH-C169");
    assert!(drill.scene.policy().pending.is_some());
}

#[test]
fn going_back_by_hand_ends_the_waiting() {
    let mut drill = Drill::pending();
    assert_eq!(drill.scene.rollback(1).unwrap().generation, 3);
    assert_eq!(drill.scene.policy().sources, web_to_db());
    assert_eq!(drill.scene.coordinator.state().policy().unwrap().author, "root:0");
    drill.stays(&web_to_db());
}

#[test]
fn a_later_policy_may_wait_as_well() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    drill.confirm(2, &[]).unwrap();
    drill.apply(web_to_db(), WINDOW).unwrap();
    drill.wait(WINDOW);
    drill.has_gone_back(&after());
    assert_eq!(drill.scene.policy().generation, 4);
}

#[test]
fn the_window_has_limits_with_names() {
    let mut drill = Drill::new();
    for wrong in [Duration::ZERO, MIN_CONFIRM_WITHIN - SECOND, MAX_CONFIRM_WITHIN + SECOND, Duration::MAX] {
        let refusal = drill.apply(after(), wrong).unwrap_err();
        assert_eq!(refusal.code, "BH-C164");
        assert!(refusal.message.contains("MAX_CONFIRM_WITHIN"));
    }
    assert_eq!(drill.scene.policy().generation, 1);
    drill.apply(after(), MIN_CONFIRM_WITHIN).unwrap();
    drill.wait(MIN_CONFIRM_WITHIN);
    drill.has_gone_back(&web_to_db());
}

#[test]
fn what_goes_back_needs_no_compiler() {
    let mut drill = Drill::pending();
    // The bundle of what it goes back to is kept until it is not needed any more.
    let bundles = |drill: &Drill| -> Vec<bool> {
        drill.scene.coordinator.state().policies.iter().map(|policy| !policy.bundle.is_empty()).collect()
    };
    assert_eq!(bundles(&drill), [true, true]);
    drill.wait(WINDOW);
    assert_eq!(bundles(&drill), [false, false, true]);
}

#[test]
fn a_restored_backup_goes_back_when_it_is_accepted() {
    let mut drill = Drill::pending();
    drill.scene.persist(Event::restored(drill.scene.now.wall));
    drill.wait(2 * WINDOW);
    assert_eq!(drill.scene.policy().sources, after(), "nothing changes before it is accepted");
    drill.scene.admin(AdminCall::AcceptRestore).ok().unwrap();
    drill.wait(SECOND);
    drill.has_gone_back(&web_to_db());
    assert!(drill.scene.coordinator.state().generation() > Generation(1 << 20));
    assert!(drill.scene.coordinator.state().revoked.epoch >= Epoch(1 << 20));
}

#[test]
fn from_every_point_of_the_journal_it_goes_back_or_was_confirmed() {
    let mut drill = Drill::pending();
    drill.acknowledge();
    drill.wait(WINDOW / 3);
    drill.confirm(2, &[]).unwrap();
    drill.apply(web_to_db(), WINDOW).unwrap();
    drill.wait(WINDOW);
    for entries in 1..=drill.scene.journal.len() {
        let mut scene = drill.scene.restarted(entries);
        let confirmed = scene.journal.iter().any(|e| matches!(e.change, Change::PolicyConfirmed { .. }));
        let applied = scene.journal.iter().filter(|e| matches!(e.change, Change::PolicyApplied { .. }));
        let applied = applied.count();
        scene.wait(WINDOW);
        scene.tick();
        let expected = match (applied, confirmed) {
            (0, _) => Sources::default(),
            (1 | 2, false) => web_to_db(),
            _ => after(),
        };
        let current = scene.policy();
        assert_eq!((&current.sources, &current.pending), (&expected, &None), "after entry {entries}");
        // And never a second time.
        let generation = current.generation;
        scene.wait(2 * WINDOW);
        scene.tick();
        assert_eq!(scene.policy().generation, generation);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Restart,
    Acknowledge,
    Reconnect,
    Vanish,
    ClockBack(u64),
    Confirm,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..400).prop_map(Step::Wait),
        2 => Just(Step::Restart),
        2 => Just(Step::Acknowledge),
        2 => Just(Step::Reconnect),
        1 => Just(Step::Vanish),
        1 => (0u64..100).prop_map(Step::ClockBack),
        2 => Just(Step::Confirm),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// After any history, what is in force in the end is the new policy if and only if somebody confirmed it.
    #[test]
    fn it_stays_exactly_if_it_was_confirmed(steps in proptest::collection::vec(step(), 0..12)) {
        let mut drill = Drill::pending();
        let mut confirmed = false;
        for step in steps {
            match step {
                Step::Wait(seconds) => drill.wait(Duration::from_secs(seconds)),
                Step::Restart => drill.restart(),
                Step::Acknowledge => drill.acknowledge(),
                Step::Reconnect => drill.reconnect(),
                Step::Vanish => {
                    let connection = drill.links[0];
                    drill.scene.handle(Command::Disconnected { connection });
                }
                Step::ClockBack(seconds) => drill.scene.now.wall.0 -= seconds,
                Step::Confirm => confirmed |= drill.confirm(2, &[]).is_ok(),
            }
        }
        drill.wait(MAX_CONFIRM_WITHIN);
        let expected = if confirmed { after() } else { web_to_db() };
        prop_assert_eq!(drill.scene.policy().sources, expected);
        drill.replays();
    }
}
