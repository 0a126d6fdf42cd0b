//! Figures of the data plane: ours and its peers in turn on one machine, medians with ratios, a JSON line each.
//!
//! Both ends, the load and its sink share the machine's cores: compare within one run, and quote the ratios.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod coldstart;
mod compare;
mod control;
mod crowd;
mod echo;
mod enrol;
mod flooder;
mod floods;
mod knock;
mod mesh;
mod nebula;
mod report;
mod scale;
mod soak;
mod system;
mod tcp;
mod traffic;
mod uapi;
mod udp;
mod usage;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::compare::Effort;
use crate::report::Alone;
use crate::system::Kind;
use crate::wire::Veth;

const USAGE: &str =
    "[--quick] [--rounds N] [--seconds N] [--veth on,off,gro] [--systems NAME,...] [--peers FOLDER]";

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Compare,
    Start,
    Scale,
    Floods,
    Enrol,
}

impl Part {
    const ALL: [Self; 5] = [Self::Compare, Self::Start, Self::Scale, Self::Floods, Self::Enrol];

    fn name(self) -> &'static str {
        match self {
            Self::Compare => "compare",
            Self::Start => "start",
            Self::Scale => "scale",
            Self::Floods => "floods",
            Self::Enrol => "enrol",
        }
    }
}

struct Options {
    parts: Vec<Part>,
    effort: Effort,
    veths: Vec<Veth>,
    systems: Vec<Kind>,
    peers: Option<PathBuf>,
}

fn options(mut args: impl Iterator<Item = String>) -> Options {
    let mut options = Options {
        parts: Part::ALL.to_vec(),
        effort: Effort { rounds: 3, seconds: 4 },
        veths: vec![Veth::On, Veth::Off, Veth::GroOnly],
        systems: Kind::ALL.to_vec(),
        peers: None,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--quick" => {
                options.effort = Effort { rounds: 1, seconds: 2 };
                options.veths = vec![Veth::On];
                options.parts = vec![Part::Compare, Part::Start];
            }
            "--parts" => options.parts = list(&value(), &Part::ALL, Part::name),
            "--rounds" => options.effort.rounds = value().parse().unwrap(),
            "--seconds" => options.effort.seconds = value().parse().unwrap(),
            "--veth" => options.veths = list(&value(), &Veth::ALL, Veth::as_str),
            "--systems" => options.systems = list(&value(), &Kind::ALL, Kind::name),
            "--peers" => options.peers = Some(PathBuf::from(value())),
            other => panic!("unknown option {other}: {USAGE}"),
        }
    }
    options
}

/// How long the soak is.
fn minutes(args: &[String]) -> u64 {
    match args {
        [] => 30,
        [option, value] if option == "--minutes" => value.parse().unwrap(),
        _ => panic!("unknown options: soak [--minutes N]"),
    }
}

/// Values named one after the other, with commas between.
fn list<T: Copy>(names: &str, all: &[T], name_of: fn(T) -> &'static str) -> Vec<T> {
    let find = |name| {
        let found = all.iter().copied().find(|&value| name_of(value) == name);
        found.unwrap_or_else(|| {
            panic!("no {name}: {}", all.iter().map(|&v| name_of(v)).collect::<Vec<_>>().join(", "))
        })
    };
    names.split(',').map(find).collect()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((_, rest)) = args.split_first().filter(|(first, _)| *first == "soak") {
        return soak::run(Duration::from_secs(60 * minutes(rest)));
    }
    let options = options(args.into_iter());
    let mut alone = Alone::default();
    for part in options.parts {
        match part {
            Part::Compare => {
                compare::run(&options.systems, &options.veths, options.effort, options.peers.as_deref());
            }
            Part::Start => {
                control::run(&mut alone);
                coldstart::run(5 * options.effort.rounds, &mut alone);
            }
            Part::Scale => scale::run(options.effort, &mut alone),
            Part::Floods => floods::run(options.effort, &mut alone),
            Part::Enrol => enrol::run(options.effort, &mut alone),
        }
    }
    alone.table();
    ExitCode::SUCCESS
}
