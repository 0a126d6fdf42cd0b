//! Figures for policy at the size that the design names: 10,000 nodes, 2,000 rules, 500 label classes, one
//! core. Each figure is a table row and a JSON line: the median of several rounds, beside its goal.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod company;
mod deployment;

use std::hint::black_box;

use bulkhead_acl::{
    Checked, Decision, PortSet, RuleSet, Selector, Service, Sources, Subject, check,
    question::{
        Census, ExposureQuery, LiveFlow, assert_never, cut_flows, explain, exposure, lost_ways, plan,
    },
};
use bulkhead_identity::{Labels, Timestamp};

use crate::company::{Company, Dice, NODES, RULES, nodes};

/// Tuesday, 2026-06-02T12:00:00Z.
pub(crate) const WALL: Timestamp = Timestamp(1_780_401_600);

/// Prints the median of `rounds` beside its goal.
pub(crate) fn print(what: &str, unit: &str, goal: Option<f64>, mut rounds: Vec<f64>) {
    rounds.sort_by(f64::total_cmp);
    let median = rounds[rounds.len() / 2];
    let verdict = goal.map_or(String::new(), |goal| {
        format!("  goal {goal} {}", if median < goal { "met" } else { "MISSED" })
    });
    println!("{what:<58} {median:>10.3} {unit:<5}{verdict}");
    println!(
        "{}",
        serde_json::json!({ "figure": what, "unit": unit, "median": median, "goal": goal, "rounds": rounds })
    );
}

/// Milliseconds on the processor that one piece of work takes, by round; each does it `times` over. Nothing here
/// waits, so on a quiet machine the clock on the wall shows the same.
pub(crate) fn time<T>(rounds: usize, times: usize, mut work: impl FnMut(usize) -> T) -> Vec<f64> {
    let round = |round| {
        let started = on_processor_ms();
        for number in 0..times {
            black_box(work(round * times + number));
        }
        (on_processor_ms() - started) / times as f64
    };
    (0..rounds).map(round).collect()
}

/// How long this thread ran so far (from /proc/thread-self/schedstat, nanoseconds).
fn on_processor_ms() -> f64 {
    // The kernel brings the figure up to date when it schedules, which else is every few milliseconds.
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e6
}

/// The most memory this process had resident, MB (from /proc/self/status).
pub(crate) fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn compiled(sources: &Sources) -> Checked {
    check(sources, WALL).unwrap_or_else(|found| {
        let shown: Vec<_> = found.iter().take(5).map(|each| format!("{each:?}")).collect();
        panic!("the policy does not compile: {}", shown.join("\n"))
    })
}

fn main() {
    let (mut rounds, mut connected) = (7, 2000);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds = args.next().unwrap().parse().unwrap(),
            "--connected" => connected = args.next().unwrap().parse().unwrap(),
            // cargo says so to every benchmark.
            "--bench" => {}
            other => panic!("unknown option {other}: --rounds N --connected N"),
        }
    }
    let sources = Company::policy(None);
    let bytes: usize = sources.0.values().map(String::len).sum();
    let nodes = nodes();
    let checked = compiled(&sources);
    let rules = &checked.rules;
    assert_eq!(rules.allow.len() + rules.never.len(), RULES);
    println!(
        "{} allow rules, {} never rules in {bytes} bytes; {NODES} nodes; {} expectations hold; {} warnings\n",
        rules.allow.len(),
        rules.never.len(),
        checked.tests_passed,
        checked.warnings.len(),
    );
    compile(rounds, &sources, rules, &nodes);
    decide(rounds, rules, &nodes);
    ask(rounds, &checked, &nodes);
    change(rounds, rules, &nodes);
    relabel(rounds, rules, &nodes);
    print("memory, most resident so far", "MB", Some(200.0), vec![peak_mb()]);
    deployment::measure((rounds, connected), &sources, &nodes);
}

fn compile(rounds: usize, sources: &Sources, rules: &RuleSet, nodes: &[Subject]) {
    print(
        "check: text to rules, with lints and tests",
        "ms",
        Some(1000.0),
        time(rounds, 1, |_| compiled(sources)),
    );
    print("classes: rules to index", "ms", None, time(rounds, 1, |_| rules.classes()));
    let whole = time(rounds, 1, |_| compiled(sources).rules.classes());
    print("full compile: text to index", "ms", Some(1000.0), whole);
    print("census: group the nodes", "ms", None, time(rounds, 1, |_| Census::new(rules, nodes)));
    let classes = rules.classes();
    let mut seen: Vec<_> = nodes.iter().map(|node| classes.of(node)).collect();
    seen.sort_unstable();
    seen.dedup();
    println!("{} label classes", seen.len());
}

/// `can`, for pairs that may and for pairs that may not.
fn decide(rounds: usize, rules: &RuleSet, nodes: &[Subject]) {
    let mut dice = Dice::new(3);
    let (mut allowed, mut denied) = (Vec::new(), Vec::new());
    let services =
        [Service::Tcp(443), Service::Tcp(5432), Service::Tcp(9100), Service::Tcp(22), Service::Echo];
    while allowed.len() < 200 || denied.len() < 200 {
        let pick = |dice: &mut Dice| &nodes[dice.below(nodes.len())];
        let question = (pick(&mut dice), pick(&mut dice), services[dice.below(services.len())]);
        match rules.decide(question.0, question.1, question.2, WALL) {
            Decision::Allowed { .. } => allowed.push(question),
            Decision::NoRule { .. } => denied.push(question),
            Decision::Forbidden { .. } => {}
        }
    }
    for (what, questions) in [("can: yes", &allowed), ("can: no, with the nearest rule", &denied)] {
        let ask = |number: usize| {
            let (from, to, service) = questions[number % questions.len()];
            rules.decide(from, to, service, WALL)
        };
        print(what, "ms", Some(1.0), time(rounds, 200, ask));
    }
    let ask = |number: usize| {
        let (from, to, service) = denied[number % denied.len()];
        explain(rules, from, to, service, WALL)
    };
    print("explain: every rule in order of closeness", "ms", None, time(rounds, 20, ask));
}

fn ask(rounds: usize, checked: &Checked, nodes: &[Subject]) {
    let (rules, names) = (&checked.rules, &checked.names);
    let census = Census::new(rules, nodes);
    let node = |number: usize| &nodes[number % nodes.len()].name;
    print(
        "who-can, any port, by a census that is there",
        "ms",
        None,
        time(rounds, 20, |n| census.who_can(node(n), None, WALL)),
    );
    print(
        "from, any port, by a census that is there",
        "ms",
        None,
        time(rounds, 20, |n| census.from(node(n), None, WALL)),
    );
    let cold = time(rounds, 1, |n| Census::new(rules, nodes).who_can(node(n), None, WALL));
    print("who-can, as the command asks it", "ms", None, cold);
    let selector = |text: &str| Selector::parse(text).unwrap();
    let all = time(rounds, 1, |_| exposure(names, rules, &ExposureQuery::default(), WALL).unwrap());
    print("exposure of everything", "ms", None, all);
    let query = ExposureQuery { to: Some(selector("app=app03, role=db")), ..ExposureQuery::default() };
    print(
        "exposure of one application's db",
        "ms",
        None,
        time(rounds, 1, |_| exposure(names, rules, &query, WALL).unwrap()),
    );
    let (stage, prod) = (selector("env=stage"), selector("env=prod"));
    let hold = time(rounds, 1, |_| assert_never(names, rules, &stage, &prod, &PortSet::any(), WALL).unwrap());
    print("assert: staging never reaches production", "ms", None, hold);
}

fn change(rounds: usize, rules: &RuleSet, nodes: &[Subject]) {
    let edition = |every: usize| compiled(&Company::policy(Some(every))).rules;
    let mut one = rules.clone();
    let middle = one.allow.len() / 2;
    one.allow[middle].ports = one.allow[middle].ports.union(&PortSet::parse("tcp/6666").unwrap());
    let mut guard = rules.clone();
    guard.never.retain(|rule| &*rule.id.0 != "environments-apart");
    let mut open = rules.clone();
    open.allow.iter_mut().filter(|rule| &*rule.id.0 == "echo").for_each(|rule| rule.related.clear());
    let mut ending = rules.clone();
    ending.allow.iter_mut().for_each(|rule| rule.until = rule.until.or(Some(Timestamp(WALL.0 + 30_000_000))));
    let changes = [
        ("plan: nothing changed", rules.clone(), Some(200.0)),
        ("plan: one rule changed", one.clone(), Some(200.0)),
        ("plan: one rule in ten changed", edition(10), Some(200.0)),
        ("plan: every rule changed", edition(1), Some(200.0)),
        ("plan: the widest guard rail removed", guard, Some(200.0)),
        ("plan: everyone may reach everyone", open, Some(200.0)),
        ("plan: everything removed", RuleSet::default(), Some(200.0)),
        ("plan: every rule ends next year", ending, Some(200.0)),
    ];
    for (what, new, goal) in changes {
        let answer = plan(rules, &new, nodes, WALL);
        let (summary, later) = (answer.summary(), answer.timed.len());
        print(what, "ms", goal, time(rounds, 1, |_| plan(rules, &new, nodes, WALL)));
        println!("  {summary:?}, {later} class pairs change later");
    }
    let target = &nodes[4].name;
    let services = PortSet::any();
    print(
        "ways lost to one node",
        "ms",
        None,
        time(rounds, 1, |_| lost_ways(rules, &one, nodes, target, &services, WALL)),
    );
    let mut dice = Dice::new(4);
    let mut pick = || nodes[dice.below(nodes.len())].name.clone();
    let flow = |_| LiveFlow { from: pick(), to: pick(), service: Service::Tcp(443) };
    let flows: Vec<_> = (0..10_000).map(flow).collect();
    print(
        "10,000 live flows judged",
        "ms",
        None,
        time(rounds, 1, |_| cut_flows(rules, &one, nodes, &flows, WALL)),
    );
}

/// What the rules have to say of a node that gets other labels: its class, and whom that may talk to.
fn relabel(rounds: usize, rules: &RuleSet, nodes: &[Subject]) {
    let classes = rules.classes();
    let mut others: Vec<_> = nodes.iter().map(|node| classes.of(node)).collect();
    others.sort_unstable();
    others.dedup();
    let work = |number: usize| {
        let labels = Labels::parse(&company::label_sets()[number % 500]).unwrap();
        let class = classes.of(&Subject { labels, ..nodes[number].clone() });
        let may = |other: &&_| classes.may_ever(&class, other, WALL) || classes.may_ever(other, &class, WALL);
        others.iter().filter(may).count()
    };
    print("relabel: class, and the pairs with every class", "ms", Some(5.0), time(rounds, 10, work));
}
