//! More than one queue: several data threads at work, and every flow in order.

use std::net::SocketAddr;

use bulkhead_tests::{Coordinator, Lab, Node};

use crate::mesh::POLICY;
use crate::noise::{Numbered, Stream};

const QUEUES: usize = 2;
/// Of each kind.
const FLOWS: u16 = 8;
const DATAGRAMS: u32 = 3000;

fn enrol(lab: &Lab, coordinator: &Coordinator, name: &str) -> Node {
    let token = coordinator.token(name, &[&format!("role={name}")]).unwrap();
    let mut node = Node::prepare(lab, name).unwrap();
    node.start_with(&["--token-file", &token.to_string_lossy(), "--queues", &QUEUES.to_string()]).unwrap();
    node.wait_connected();
    node
}

/// The data threads of a node's daemon: name, and ticks on a CPU so far (proc_pid_stat(5): `utime`, `stime`).
fn data_threads(node: &mut Node) -> Vec<(String, u64)> {
    let tasks = format!("/proc/{}/task", node.process().id());
    let mut threads = Vec::new();
    for task in std::fs::read_dir(tasks).unwrap() {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
        if name.starts_with("bulkhead-data-") {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap();
            let behind_name = stat.rsplit(')').next().unwrap();
            let fields: Vec<&str> = behind_name.split_whitespace().collect();
            threads.push((name, [11, 12].map(|at| fields[at].parse::<u64>().unwrap()).iter().sum()));
        }
    }
    threads.sort();
    threads
}

#[test]
fn with_two_queues_streams_are_whole_and_datagrams_in_order() {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    let (mut web, mut db) = (enrol(&lab, &coordinator, "web"), enrol(&lab, &coordinator, "db"));
    let ports = |text: &str| {
        text.replace("\"tcp/5432\", \"tcp/80\", \"udp/7000\"", "\"tcp/5432-5439\", \"udp/7000-7007\"")
    };
    coordinator.apply(&ports(POLICY)).unwrap();
    for node in [&mut web, &mut db] {
        assert_eq!(node.json(&["status"]).unwrap()["node"]["queues"], QUEUES);
        let names: Vec<_> = data_threads(node).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["bulkhead-data-0", "bulkhead-data-1"]);
    }
    let at = |port: u16| {
        let ip = if port.is_multiple_of(2) { db.v4().into() } else { db.v6().into() };
        SocketAddr::new(ip, port)
    };
    let streams: Vec<_> = (0..FLOWS).map(|i| Stream::start(&web, &db, at(5432 + i))).collect();
    let flows: Vec<_> = (0..FLOWS)
        .map(|i| {
            Numbered::start(u64::from(i), &web, &db, at(7000 + i), DATAGRAMS, 100 + 100 * usize::from(i))
        })
        .collect();
    for stream in &streams {
        stream.carry(4 << 20);
    }
    for (flow, numbered) in flows.into_iter().enumerate() {
        let (sent, came) = numbered.finish();
        let out_of_order = came.windows(2).filter(|pair| pair[0] >= pair[1]).count();
        assert_eq!(out_of_order, 0, "flow {flow}, of which {} of {sent} came", came.len());
        assert!(came.len() > sent as usize / 2, "flow {flow}: {} of {sent} came", came.len());
    }
    for stream in streams {
        stream.finish();
    }
    let idle: Vec<_> = data_threads(&mut web).into_iter().filter(|(_, ticks)| *ticks == 0).collect();
    assert!(idle.is_empty(), "nothing came by {idle:?}");
}
