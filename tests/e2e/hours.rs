//! Rules bound to time: `until`, `not_before` and `hours` begin and end on the nodes, with the coordinator dead.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bulkhead_tests::{Coordinator, Lab, Node, SOON, process, until};

use crate::load::reaches;
use crate::policy::{connect, echo_server, exchange};

/// Ends at the turn of the minute, by a clock that is not ours.
const CLOSES: u16 = 5001;
/// Begins at the turn of the minute.
const OPENS: u16 = 5002;
/// `until` a moment before the minute turns.
const EXPIRES: u16 = 5003;
/// `not_before` that moment.
const STARTS: u16 = 5004;
/// Has the hours of [`CLOSES`], read by the wrong clock.
const ELSEWHERE: u16 = 5005;
/// At all times.
const ALWAYS: u16 = 5006;

/// India's clocks are this far ahead and are never changed.
const KOLKATA_MINUTES: u64 = 5 * 60 + 30;
/// Time to apply the policy and to look at it before anything happens, and what is in [`GAP`].
const AHEAD: u64 = 40;
/// Between the two moments at which something happens.
const GAP: u64 = 16;
/// A node looks at its windows four times a second; a busy machine may be late, but not by the gap.
const LATE: Duration = Duration::from_secs(GAP - 1);

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A moment as TOML writes it.
fn moment(seconds: u64) -> String {
    let mut date = process::command("date", &["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]);
    process::run(&mut date, LATE).unwrap().success().unwrap().trim().to_owned()
}

/// Half an hour of every day that begins at this minute since 1970, or ends there.
fn span(from: u64, zone: &str) -> String {
    let clock = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    format!("Mon-Sun {}-{} {zone}", clock(from), clock(from + 30))
}

fn rule(port: u16, condition: &str) -> String {
    format!(
        "[[allow]]\nid = \"port-{port}\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"tcp/{port}\"]\n\
         why = \"a drill\"\n{condition}\n"
    )
}

/// The client blocks in a read: the reset must come to it without its help, and not before `end`.
fn is_cut(stream: &mut TcpStream, end: u64) {
    let limit = Duration::from_secs(end) + LATE;
    stream.set_read_timeout(Some(limit.saturating_sub(wall()))).unwrap();
    let ended = stream.read(&mut [0]).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset, "{ended}");
    assert!(wall() >= Duration::from_secs(end), "cut before its end");
    eprintln!("cut {:?} after its end", wall() - Duration::from_secs(end));
}

#[test]
fn hours_and_until_begin_and_end_without_a_coordinator() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    let web = Node::enrol(&lab, &coordinator, "web", &["role=web"]).unwrap();
    let mut db = Node::enrol(&lab, &coordinator, "db", &["role=db"]).unwrap();
    for port in [CLOSES, OPENS, EXPIRES, STARTS, ELSEWHERE, ALWAYS] {
        echo_server(&db, port);
    }
    let turn = wall().as_secs().next_multiple_of(60);
    let turn = if turn < wall().as_secs() + AHEAD { turn + 60 } else { turn };
    let minute = turn / 60;
    let edge = turn - GAP;
    let policy = [
        "version = 1\n[labels.role]\nvalues = [\"web\", \"db\"]\n".to_owned(),
        rule(CLOSES, &format!("hours = \"{}\"", span(minute + KOLKATA_MINUTES - 30, "Asia/Kolkata"))),
        rule(OPENS, &format!("hours = [\"{}\"]", span(minute, "UTC"))),
        rule(EXPIRES, &format!("until = {}", moment(edge))),
        rule(STARTS, &format!("not_before = {}", moment(edge))),
        rule(ELSEWHERE, &format!("hours = \"{}\"", span(minute + KOLKATA_MINUTES - 30, "UTC"))),
        rule(ALWAYS, ""),
    ];
    coordinator.apply(&policy.concat()).unwrap();
    coordinator.kill();

    let at = |port: u16| (db.v4(), port);
    let mut closing = connect(&web, at(CLOSES).into()).expect("inside its hours");
    let mut expiring = connect(&web, at(EXPIRES).into()).expect("before its end");
    let mut lasting = connect(&web, at(ALWAYS).into()).unwrap();
    for stream in [&mut closing, &mut expiring, &mut lasting] {
        exchange(stream).unwrap();
    }
    let closed = [OPENS, STARTS, ELSEWHERE].map(|port| reaches(&web, at(port)));
    assert!(wall() < Duration::from_secs(edge), "this machine is too slow for this test");
    assert_eq!(closed, [false; 3], "each before its time, or by another clock");

    is_cut(&mut expiring, edge);
    exchange(&mut closing).expect("the end of one rule is nothing to another");
    until("a rule begins at its not_before", LATE, || reaches(&web, at(STARTS)));
    assert!(!reaches(&web, at(EXPIRES)), "no new connection after the end");

    is_cut(&mut closing, turn);
    until("a rule begins with its hours", LATE, || reaches(&web, at(OPENS)));
    assert!(wall() >= Duration::from_secs(turn));
    assert!(!reaches(&web, at(CLOSES)), "no new connection out of hours");
    assert!(!reaches(&web, at(ELSEWHERE)), "the zone's clock decides");
    exchange(&mut lasting).expect("what is bound to no time goes on");

    // A node that starts again has only its disk to ask.
    let before = db.v4();
    db.kill();
    db.start().unwrap();
    until("what has begun is open after a restart", SOON, || reaches(&web, (before, OPENS)));
    assert!(
        !reaches(&web, (before, CLOSES)) && !reaches(&web, (before, EXPIRES)),
        "what has ended stays ended"
    );
}
