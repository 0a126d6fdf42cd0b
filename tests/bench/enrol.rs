//! Machines that join, one after the other from each of a few places at once, by the program itself: keys, first contact,
//! two verified requests, and a certificate on the disk of both ends. The coordinator syncs its journal for each.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_tests::{Coordinator, Lab, Namespace, process, program};

use crate::compare::Effort;
use crate::echo::Trips;
use crate::report::Alone;

/// Machines that join at the same time: with fewer the coordinator waits for them, with more they wait for the cores.
const AT_ONCE: usize = 4;
/// The benchmark lasts this many times as long as one of a stream.
const TIMES: u64 = 5;

/// Prints how many join in a minute, and how long each takes.
pub(crate) fn run(effort: Effort, alone: &mut Alone) {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    let host = lab.host("joining").unwrap();
    let token = lab.folder().join("many.token").to_string_lossy().into_owned();
    coordinator.ctl(&["token", "create", "--uses", "10000", "--out", &token]).unwrap().success().unwrap();

    let (mut pace, mut trips) = (Vec::new(), Vec::new());
    let number = AtomicUsize::new(0);
    for _ in 0..effort.rounds {
        let started = Instant::now();
        let length = Duration::from_secs(effort.seconds * TIMES);
        let joined = || {
            let mut millis = Vec::new();
            while started.elapsed() < length {
                let name = format!("machine-{}", number.fetch_add(1, Ordering::Relaxed));
                millis.push(join(&host, lab.folder(), &name, &token).as_secs_f64() * 1e3);
            }
            millis
        };
        let round: Vec<f64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(joined)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        pace.push(round.len() as f64 / started.elapsed().as_secs_f64() * 60.0);
        trips.extend(round);
    }
    let trips = Trips::new(trips);
    alone.note("enrolments by `bulkhead up --enrol-only`", "a minute", &pace);
    alone.note("an enrolment, command to certificate, p50", "ms", &[trips.quantile(0.5)]);
    alone.note("an enrolment, command to certificate, p99", "ms", &[trips.quantile(0.99)]);
}

fn join(host: &Namespace, folder: &Path, name: &str, token: &str) -> Duration {
    let state = folder.join(name);
    let mut command = host.command(program("bulkhead"));
    command.arg("--state").arg(&state);
    command.args(["up", "--enrol-only", "--name", name, "--token-file", token]);
    let started = Instant::now();
    process::run(&mut command, Duration::from_secs(60)).unwrap().success().unwrap();
    started.elapsed()
}
