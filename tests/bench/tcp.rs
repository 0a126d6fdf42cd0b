//! TCP by iperf3, always cubic: the machine's default may be bbr, which halves some of the systems.

use std::time::Duration;

use bulkhead_tests::{Process, process, until};

use crate::system::System;

/// Which streams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Streams {
    One,
    Four,
    /// One each way at once.
    BothWays,
}

impl Streams {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::One => &[],
            Self::Four => &["-P", "4"],
            Self::BothWays => &["--bidir"],
        }
    }
}

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) gbit_per_s: f64,
    pub(crate) bytes: f64,
}

fn serve(system: &System) -> Process {
    let mut command = system.right().command("iperf3");
    let server = Process::start(command.args(["-s", "-1"]), &system.log("iperf3-server")).unwrap();
    until("iperf3 listens", Duration::from_secs(10), || {
        system.right().run("ss", &["-Hltn", "sport = :5201"]).is_ok_and(|o| o.stdout.contains("5201"))
    });
    server
}

/// From left to right through the system for so many seconds.
pub(crate) fn transfer(system: &System, streams: Streams, seconds: u64) -> Transfer {
    let mut server = serve(system);
    let mut client = system.left().command("iperf3");
    client.args(["-c", &system.target.to_string(), "-J", "-C", "cubic", "-t", &seconds.to_string()]);
    client.args(streams.options());
    let report = process::run(&mut client, Duration::from_secs(seconds + 30)).unwrap().json().unwrap();
    until("the server ends", Duration::from_secs(10), || !server.running());
    assert!(report.get("error").is_none(), "iperf3: {}", report["error"]);
    let sum = |name: &str, what: &str| report["end"][name][what].as_f64().unwrap_or_default();
    let both = |what: &str| sum("sum_received", what) + sum("sum_received_bidir_reverse", what);
    Transfer { gbit_per_s: both("bits_per_second") / 1e9, bytes: both("bytes") }
}

/// A stream that takes all it can get until it is dropped.
pub(crate) struct Saturating {
    _client: Process,
    _server: Process,
}

impl Saturating {
    pub(crate) fn start(system: &System) -> Self {
        let server = serve(system);
        let mut client = system.left().command("iperf3");
        client.args(["-c", &system.target.to_string(), "-C", "cubic", "-t", "600"]);
        let client = Process::start(&mut client, &system.log("iperf3-client")).unwrap();
        until("the stream runs", Duration::from_secs(10), || {
            let established = ["-Htn", "state", "established", "sport = :5201"];
            // The control connection and the stream.
            system.right().run("ss", &established).is_ok_and(|o| o.stdout.lines().count() >= 2)
        });
        Self { _client: client, _server: server }
    }
}
