//! What time ends by itself, without a coordinator: certificates, windows of the policy, the policy. L16.

use crate::craft::{SYN, Segment, tcp, udp};
use crate::domain::{DAY, Member, START};
use crate::net::{DB, Net, WEB, WEB_TO_DB, three};
use bulkhead_acl::{Direction, Service};
use bulkhead_identity::Timestamp;
use bulkhead_node_engine::*;

fn short_lived(who: usize) -> Net {
    let mut members = [Member::new("web", 10, "role=web"), Member::new("db", 11, "role=db")];
    members[who].not_after = Timestamp(START.0 + 160);
    let mut net = Net::new(&members, WEB_TO_DB);
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let syn =
        Segment { from: (web, 4000), to: (db, 5432), flags: SYN, sequence: 1, acknowledgement: 0, data: b"" };
    assert_eq!(net.send(WEB, &tcp(syn)).at(DB).len(), 1);
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    net
}

#[test]
fn at_the_end_of_a_certificate_the_very_next_packet_stops() {
    for expires in [WEB, DB] {
        let mut net = short_lived(expires);
        net.seconds = 159;
        assert!(net.udp_arrives(WEB, DB, 1, 53));
        net.seconds = 160;
        // Before any timer has run, at either end, either way.
        let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
        assert!(net.send(WEB, &udp((web, 1), (db, 53), b"x")).wire.is_empty());
        assert!(net.send(DB, &udp((db, 53), (web, 1), b"x")).wire.is_empty());
    }
}

#[test]
fn one_end_with_a_right_clock_is_enough() {
    for right in [WEB, DB] {
        let mut net = short_lived(WEB);
        let packet = udp((net.nodes[WEB].v4(), 1), (net.nodes[DB].v4(), 53), b"x");
        if right == WEB {
            net.seconds = 160;
            assert!(net.send_held(WEB, &packet).wire.is_empty());
        } else {
            let sent = net.send_held(WEB, &packet);
            net.seconds = 160;
            let from = net.nodes[WEB].endpoint;
            let step = net.receive_held(DB, from, &sent.wire[0].2);
            assert!(step.packets.is_empty() && step.wire.is_empty());
            assert_eq!(net.counter(DB, Reason::PeerExpired), 1);
        }
    }
}

#[test]
fn the_timer_ends_sessions_and_flows_of_the_expired_and_tells_the_host() {
    let mut net = short_lived(WEB);
    net.seconds = 160;
    let step = net.tick();
    for (node, reason) in [(WEB, Reason::SelfExpired), (DB, Reason::PeerExpired)] {
        assert_eq!(step.resets(node).len(), 1);
        assert!(net.nodes[node].engine.flows(net.now()).is_empty());
        assert!(net.nodes[node].engine.peers(net.now()).iter().all(|peer| !peer.connected));
        assert!(net.counter(node, reason) > 0);
    }
    let (web, db) = (net.nodes[WEB].member.name.clone(), net.nodes[DB].member.name.clone());
    let explain = |node: usize, peer| {
        net.nodes[node].engine.explain(peer, Direction::Outbound, Service::Udp(53), net.now())
    };
    assert_eq!(explain(WEB, &db), Explanation::SelfExpired);
    assert!(matches!(explain(DB, &web), Explanation::NotAPeer | Explanation::PeerExpired));
}

#[test]
fn a_renewed_certificate_ends_the_isolation() {
    let mut net = short_lived(WEB);
    net.seconds = 170;
    net.tick();
    assert!(!net.udp_arrives(WEB, DB, 1, 53));
    net.nodes[WEB].member.not_after = Timestamp(START.0 + DAY);
    let member = net.nodes[WEB].member.clone();
    net.nodes[WEB].chain = net.domain.certify(&member);
    net.sync();
    assert!(net.udp_arrives(WEB, DB, 1, 53));
}

#[test]
fn renewals_in_time_lose_no_packet() {
    let mut net = short_lived(WEB);
    for round in 0..10 {
        net.seconds += 30;
        net.nodes[WEB].member.not_after = Timestamp(START.0 + net.seconds + 60);
        let member = net.nodes[WEB].member.clone();
        net.nodes[WEB].chain = net.domain.certify(&member);
        net.sync();
        net.tick();
        assert!(net.udp_arrives(WEB, DB, 1, 53), "round {round}");
        assert_eq!(net.nodes[DB].changes.changed.len(), 1);
    }
}

#[test]
fn a_window_of_time_closes_on_live_flows_and_opens_by_itself() {
    let mut net = three();
    let at = |seconds: u64| {
        let time = Timestamp(START.0 + seconds);
        // START is 2027-01-15T08:00:00Z.
        assert_eq!(START, Timestamp(1_800_000_000));
        format!("2027-01-15T08:{:02}:{:02}Z", (time.0 - START.0) / 60, (time.0 - START.0) % 60)
    };
    net.set_policy(&format!(
        "[[allow]]\nid = \"window\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"udp/53\", \"tcp/5432\"]\nnot_before = {}\nuntil = {}\n",
        at(110),
        at(120)
    ));
    assert!(!net.udp_arrives(WEB, DB, 1, 53), "not yet");
    net.seconds = 110;
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let syn =
        Segment { from: (web, 4000), to: (db, 5432), flags: SYN, sequence: 1, acknowledgement: 0, data: b"" };
    assert_eq!(net.send(WEB, &tcp(syn)).at(DB).len(), 1);
    net.seconds = 119;
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    net.seconds = 120;
    // The first packet of any flow has all of them judged again, before any timer.
    let step = net.send(WEB, &udp((web, 1), (db, 53), b"late"));
    assert!(step.wire.is_empty());
    assert!(step.resets(WEB).contains(&(5432, 4000, 0, 2)));
    let step = net.tick();
    assert!(!step.resets(DB).is_empty());
    assert!(net.nodes[DB].engine.flows(net.now()).is_empty());
}

#[test]
fn an_expired_policy_permits_nothing() {
    let mut net = three();
    net.policy = net.domain.policy_until(WEB_TO_DB, Timestamp(START.0 + 150));
    net.sync();
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    net.seconds = 150;
    assert!(!net.udp_arrives(WEB, DB, 1, 53));
    net.sync();
    assert!(net.nodes[WEB].engine.peers(net.now()).is_empty());
}

#[test]
fn without_a_policy_nobody_talks_and_nobody_is_at_fault() {
    let mut net = three();
    net.policy = std::sync::Arc::new(bulkhead_acl::Policy::nobody());
    net.sync();
    assert_eq!(net.nodes[WEB].changes.isolated, None);
    assert!(net.nodes[WEB].engine.peers(net.now()).is_empty());
    assert!(!net.udp_arrives(WEB, DB, 1, 53));
}

#[test]
fn idle_flows_are_forgotten_in_their_time() {
    let mut net = three();
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    let answer = udp((net.nodes[DB].v4(), 53), (net.nodes[WEB].v4(), 1), b"answer");
    net.seconds += 31;
    assert!(net.send(DB, &answer).at(WEB).is_empty(), "an answer after 30 seconds is too late");
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    assert_eq!(net.send(DB, &answer).at(WEB).len(), 1);
    net.seconds += 179;
    assert_eq!(net.send(DB, &answer).at(WEB).len(), 1, "an answered flow lives for 180");
    net.seconds += 181;
    net.tick();
    assert!(net.nodes[WEB].engine.flows(net.now()).is_empty());
}

#[test]
fn the_timer_wants_to_be_called_again() {
    let mut net = three();
    net.tick();
    let wait = net.nodes[WEB].engine.next_timeout(net.now()).unwrap();
    assert!(wait > std::time::Duration::ZERO && wait <= limits::TICK);
    net.seconds += 1;
    assert_eq!(net.nodes[WEB].engine.next_timeout(net.now()), Some(std::time::Duration::ZERO));
}

#[test]
fn a_clock_that_was_set_back_does_not_carry_flows_past_the_end_of_their_window() {
    let mut net = three();
    assert_eq!(START, Timestamp(1_800_000_000), "2027-01-15T08:00:00Z");
    net.set_policy(
        "[[allow]]\nid = \"window\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"udp/53\"]\nuntil = 2027-01-15T08:02:00Z\n",
    );
    net.seconds = 121;
    net.tick();
    assert!(!net.udp_arrives(WEB, DB, 1, 53), "the window is over");
    net.set_back = 10;
    assert!(net.udp_arrives(WEB, DB, 1, 53), "and is open again");
    net.seconds = 132;
    net.tick();
    assert!(net.nodes[DB].engine.flows(net.now()).is_empty());
    assert!(!net.udp_arrives(WEB, DB, 1, 53));
}
