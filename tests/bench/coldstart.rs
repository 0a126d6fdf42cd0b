//! From the start of the process to the first packet through the tunnel, from state on disk: with the coordinator
//! there, and with the coordinator gone.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bulkhead_tests::{Lab, Process};

use crate::echo::Echo;
use crate::mesh::{Mesh, permissive};
use crate::report::Alone;

const PORT: u16 = 7102;
const LIMIT: Duration = Duration::from_secs(30);
/// Between two datagrams that ask whether the way is open.
const ASK: Duration = Duration::from_millis(1);
/// The grain of the measurement.
const LOOK: Duration = Duration::from_micros(100);

/// Prints both.
pub(crate) fn run(rounds: usize, alone: &mut Alone) {
    let lab = Lab::new().unwrap();
    let mut mesh = Mesh::start(&lab, &permissive(0));
    let _echo = Echo::open(&mesh.nodes[1].host, PORT);
    let mut times = |what: &str, mesh: &mut Mesh| {
        let taken: Vec<f64> = (0..rounds).map(|_| first_packet(mesh).as_secs_f64() * 1e3).collect();
        alone.note(what, "ms", &taken);
    };
    times("start to first packet, coordinator there", &mut mesh);
    mesh.coordinator.stop();
    times("start to first packet, coordinator gone", &mut mesh);
}

/// Stops the left node and starts it again; how long until the right one answers it.
fn first_packet(mesh: &mut Mesh) -> Duration {
    let target = (mesh.target(), PORT);
    mesh.nodes[0].stop();
    let left = &mesh.nodes[0];
    let client = left.host.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    let log = left.folder().join("cold.log");
    let started = Instant::now();
    let mut process = Process::start(&mut left.command(&["up", "--foreground"]), &log).unwrap();
    let (mut asked, mut buffer) = (None::<Instant>, [0; 64]);
    let taken = loop {
        if client.recv_from(&mut buffer).is_ok() {
            break started.elapsed();
        }
        assert!(started.elapsed() < LIMIT && process.running(), "no packet came through:\n{}", process.log());
        if asked.is_none_or(|at| at.elapsed() >= ASK) {
            // There is no route until the node has made one.
            let _ = client.send_to(&[0; 32], target);
            asked = Some(Instant::now());
        }
        std::thread::park_timeout(LOOK);
    };
    // Back under the node's own guard for the next round.
    process.terminate(LIMIT);
    mesh.nodes[0].start().unwrap();
    mesh.stands();
    taken
}
