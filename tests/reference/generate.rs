//! Random policies, nodes and questions: few labels, few values, few ports, so that rules meet.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::calendar::{Span, Zone, midnight};
use crate::policy::{Kind, Node, Policy, Ports, Protocol, Rule, Selector, Service, Term};

pub const NAMES: [&str; 3] = ["one", "two", "three"];
/// The last comes from single sign-on and needs no declaration.
pub const KEYS: [&str; 3] = ["env", "role", "idp.group"];
pub const VALUES: [&str; 3] = ["x", "y", "z"];

/// How much there is to speak of: so many of the names, keys and values, and so many rules.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub names: usize,
    pub keys: usize,
    pub values: usize,
    pub rules: usize,
}

pub const LARGE: World = World { names: NAMES.len(), keys: KEYS.len(), values: VALUES.len(), rules: 10 };

impl World {
    fn key(self) -> impl Strategy<Value = &'static str> {
        select(&KEYS[..self.keys])
    }

    fn value(self) -> impl Strategy<Value = &'static str> {
        select(&VALUES[..self.values])
    }

    fn values(self) -> impl Strategy<Value = BTreeSet<&'static str>> {
        btree_set(self.value(), 1..self.values)
    }
}

/// Ends of ranges; 22 and 23 touch, 1 and 3 do not.
const PORTS: [u16; 8] = [0, 1, 3, 22, 23, 443, 65534, 65535];
/// None of those that have a syntax of their own.
const NUMBERS: [u16; 4] = [0, 47, 50, 255];
const GROUPS: [&str; 3] = ["g1", "g2", "g3"];
const SERVICES: [&str; 2] = ["s1", "s2"];

const HALF_HOUR: u64 = 1800;

/// One of a policy's questions.
#[derive(Clone, Debug)]
pub struct Question {
    pub from: Node,
    pub to: Node,
    pub service: Service,
    pub wall: u64,
}

/// Days around which all times lie: each change of a clock in autumn and spring, and a quiet one.
pub fn weekend() -> impl Strategy<Value = u64> {
    select(vec![
        midnight(2026, 7, 4),
        midnight(2026, 10, 24),
        midnight(2026, 10, 31),
        midnight(2027, 3, 13),
        midnight(2027, 3, 27),
    ])
}

/// Half hours within three days, where the rules of one policy begin and end.
fn half_hour() -> impl Strategy<Value = u64> {
    (0..3 * 48_u64).prop_map(|number| number * HALF_HOUR)
}

/// A term; groups only among the first `groups`.
fn term(world: World, groups: usize) -> impl Strategy<Value = Term> {
    let plain = prop_oneof![
        8 => (world.key(), world.values()).prop_map(|(key, values)| Term::In(key, values)),
        6 => (world.key(), world.values()).prop_map(|(key, values)| Term::NotIn(key, values)),
        2 => world.key().prop_map(Term::Has),
        2 => world.key().prop_map(Term::Lacks),
        1 => select(&NAMES[..world.names]).prop_map(Term::Node),
    ];
    (plain, 0..20_u8, any::<Index>()).prop_map(move |(plain, dice, group)| match dice {
        0..5 if groups > 0 => Term::Group(GROUPS[group.index(groups)].to_owned()),
        5 if group.index(4) == 0 => Term::User("00u1"),
        _ => plain,
    })
}

pub fn selector(world: World, groups: usize) -> impl Strategy<Value = Selector> {
    vec(term(world, groups), 0..3)
}

fn item(services: bool) -> impl Strategy<Value = Ports> {
    let protocol = || select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let (port, number) = (|| select(&PORTS[..]), || select(&NUMBERS[..]));
    let ordered = |a: u16, b: u16| (a.min(b), a.max(b));
    let plain = prop_oneof![
        6 => (protocol(), port()).prop_map(|(protocol, port)| Ports::One(protocol, port)),
        6 => (protocol(), port(), port()).prop_map(move |(protocol, a, b)| {
            let (first, last) = ordered(a, b);
            Ports::Range(protocol, first, last)
        }),
        1 => protocol().prop_map(Ports::Whole),
        1 => number().prop_map(|number| Ports::One(Protocol::Ip, number)),
        1 => (number(), number()).prop_map(move |(a, b)| {
            let (first, last) = ordered(a, b);
            Ports::Range(Protocol::Ip, first, last)
        }),
        1 => Just(Ports::Icmp),
        1 => Just(Ports::Any),
    ];
    (plain, 0..5_u8, select(&SERVICES[..])).prop_map(move |(plain, dice, name)| match dice {
        0 if services => Ports::Named(name.to_owned()),
        _ => plain,
    })
}

pub fn service() -> impl Strategy<Value = Service> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    // The ends of ranges and what lies beside them.
    let port = (select(&PORTS[..]), 0..3_u16).prop_map(|(port, by)| port.wrapping_add(by).wrapping_sub(1));
    prop_oneof![
        8 => (protocol, port).prop_map(|(protocol, port)| Service::Port(protocol, port)),
        1 => Just(Service::Icmp),
        1 => select(vec![0, 46, 47, 48, 255]).prop_map(|number| Service::Port(Protocol::Ip, number)),
    ]
}

fn span() -> impl Strategy<Value = Span> {
    let run = prop_oneof![(0..7_u64).prop_map(|day| (day, day)), (0..7_u64, 0..7_u64), Just((0, 6)),];
    let minutes = || (0..48_u64).prop_map(|half| half * 30);
    let end = prop_oneof![5 => minutes(), 1 => Just(24 * 60)];
    (vec(run, 1..3), minutes(), end, select(&Zone::ALL[..])).prop_map(|(days, start, end, zone)| Span {
        days,
        start,
        end,
        zone,
    })
}

fn rule(world: World, weekend: u64, number: usize) -> impl Strategy<Value = Rule> {
    let side = || selector(world, GROUPS.len());
    let kind = prop_oneof![3 => Just(Kind::Allow), 1 => Just(Kind::Never)];
    let sides = (side(), side(), btree_set(world.key(), 1..3), 0..3_u8);
    let window = (option::weighted(0.2, half_hour()), option::weighted(0.2, half_hour()));
    let hours = prop_oneof![3 => Just(Vec::new()), 1 => vec(span(), 1..3)];
    let ports = (vec(item(true), 1..4), any::<bool>());
    (kind, sides, window, hours, ports).prop_map(
        move |(kind, (from, to, related, dice), window, hours, (ports, stated))| {
            let related = if dice == 0 { related.into_iter().collect() } else { Vec::new() };
            let (not_before, until) = match window {
                // A window that ends before it starts is refused.
                (Some(start), Some(end)) if end <= start => (Some(weekend + end), None),
                (start, end) => (start.map(|at| weekend + at), end.map(|at| weekend + at)),
            };
            let ports = (stated || kind == Kind::Allow).then_some(ports);
            // As text r10 comes before r2: the order of ids is not that of the files.
            let id = format!("r{}", number * 7 % 11);
            Rule { kind, id, from, to, related, ports, not_before, until, hours }
        },
    )
}

fn definitions(world: World) -> impl Strategy<Value = Policy> {
    let open = (any::<bool>(), any::<bool>(), any::<bool>());
    let groups = (selector(world, 0), selector(world, 1), selector(world, 2));
    let services = (vec(item(false), 1..3), vec(item(false), 1..3));
    (open, groups, services).prop_map(move |((declared, open_env, open_role), groups, services)| {
        let mut labels = BTreeMap::new();
        if declared {
            labels.insert("env", (!open_env).then(|| VALUES[..world.values].to_vec()));
            labels.insert("role", (!open_role).then(|| VALUES[..world.values].to_vec()));
        }
        let groups = GROUPS.iter().map(|name| (*name).to_owned()).zip([groups.0, groups.1, groups.2]);
        let services = SERVICES.iter().map(|name| (*name).to_owned()).zip([services.0, services.1]);
        Policy { labels, groups: groups.collect(), services: services.collect(), rules: Vec::new() }
    })
}

/// A policy, and the day around which its times lie.
pub fn policy(world: World) -> impl Strategy<Value = (Policy, u64)> {
    weekend().prop_flat_map(move |weekend| (policy_of(world, weekend), Just(weekend)))
}

pub fn policy_of(world: World, weekend: u64) -> impl Strategy<Value = Policy> {
    (definitions(world), 0..=world.rules).prop_flat_map(move |(definitions, count)| {
        let rules: Vec<_> = (0..count).map(|number| rule(world, weekend, number)).collect();
        rules.prop_map(move |rules| Policy { rules, ..definitions.clone() })
    })
}

pub fn labels() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    btree_map(LARGE.key(), LARGE.value(), 0..4)
}

pub fn node() -> impl Strategy<Value = Node> {
    (select(&NAMES[..]), labels()).prop_map(|(name, labels)| Node { name, labels })
}

/// A second before, at, or after a half hour of the days around `weekend`.
pub fn moment(weekend: u64) -> impl Strategy<Value = u64> {
    (half_hour(), 0..3_u64).prop_map(move |(at, by)| weekend + at + by - 1)
}

/// A policy and `count` questions about it.
pub fn questions(count: usize) -> impl Strategy<Value = (Policy, Vec<Question>)> {
    policy(LARGE).prop_flat_map(move |(policy, weekend)| {
        let question = (node(), node(), service(), moment(weekend))
            .prop_map(|(from, to, service, wall)| Question { from, to, service, wall });
        vec(question, count).prop_map(move |questions| (policy.clone(), questions))
    })
}
