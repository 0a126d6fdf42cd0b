//! `ping`: the round trip to a peer's daemon inside the tunnel; with `--tcp`, a real connection over the overlay.
//!
//! When there is none, the verdict says whether the policy or the path is to blame.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_acl::Service;
use clap::Args;
use serde::Serialize;

use super::screen::milliseconds;
use super::{Context, Exit, explain, mismatch};
use crate::local::wire::{Answer, Ping, Request};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// From the start of one probe to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `ping`.
#[derive(Debug, Args)]
pub(super) struct PingArgs {
    /// The peer's name, with or without the trust domain
    name: String,
    /// Open a TCP connection to this port instead, as a program on this host would
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    tcp: Option<u16>,
    /// How many times
    #[arg(short = 'c', long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
}

/// One line of `--json`.
#[derive(Serialize)]
struct Outcome<'a> {
    schema: &'static str,
    name: &'a str,
    sequence: u32,
    address: String,
    round_trip_us: Option<u64>,
    error: Option<String>,
}

/// What one try gave.
struct Try {
    address: String,
    round_trip: Result<Duration, String>,
}

/// Pings until the count is reached.
pub(super) fn ping(context: &Context, args: &PingArgs) -> anyhow::Result<Exit> {
    let mut answered = 0;
    for sequence in 1..=args.count {
        let started = Instant::now();
        let tried = match args.tcp {
            Some(port) => connect(context, &args.name, port)?,
            None => echo(context, &args.name)?,
        };
        answered += u32::from(tried.round_trip.is_ok());
        show(context, args, sequence, &tried)?;
        if sequence < args.count {
            pace(INTERVAL.saturating_sub(started.elapsed()));
        }
    }
    if answered > 0 {
        return Ok(Exit::Ok);
    }
    if !context.screen.wants_json() {
        blame(context, args)?;
    }
    Ok(Exit::Denied)
}

#[expect(clippy::disallowed_methods, reason = "nothing is waited for: this is the pace")]
fn pace(pause: Duration) {
    thread::sleep(pause);
}

/// One echo between the daemons.
fn echo(context: &Context, name: &str) -> anyhow::Result<Try> {
    let ping = request(context, name)?;
    let endpoint = ping.endpoint.map_or_else(|| "no known endpoint".into(), |endpoint| endpoint.to_string());
    let round_trip = ping.round_trip_us.map(Duration::from_micros).ok_or_else(|| "no answer".to_owned());
    Ok(Try { address: format!("{} via {endpoint}", ping.addresses.v4), round_trip })
}

/// One connection to a program on the peer. The daemon only tells the address.
fn connect(context: &Context, name: &str, port: u16) -> anyhow::Result<Try> {
    let answer = context.ask(Request::Resolve { name: name.into() })?;
    let Answer::Whois(whois) = answer else { return Err(mismatch()) };
    let Some(addresses) = whois.addresses else { return Err(mismatch()) };
    let address = SocketAddr::new(IpAddr::V4(addresses.v4), port);
    let started = Instant::now();
    let round_trip = match TcpStream::connect_timeout(&address, CONNECT) {
        Ok(_) => Ok(started.elapsed()),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Err(format!("no answer within {} s", CONNECT.as_secs()))
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err("refused".into()),
        Err(error) => Err(error.to_string()),
    };
    Ok(Try { address: format!("{address} tcp"), round_trip })
}

fn request(context: &Context, name: &str) -> anyhow::Result<Ping> {
    let Answer::Ping(ping) = context.ask(Request::Ping { name: name.into() })? else {
        return Err(mismatch());
    };
    Ok(ping)
}

fn show(context: &Context, args: &PingArgs, sequence: u32, tried: &Try) -> anyhow::Result<()> {
    let micros = |duration: &Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if context.screen.wants_json() {
        return Ok(context.screen.json(&Outcome {
            schema: "bulkhead.ping/1",
            name: &args.name,
            sequence,
            address: tried.address.clone(),
            round_trip_us: tried.round_trip.as_ref().ok().map(micros),
            error: tried.round_trip.as_ref().err().cloned(),
        })?);
    }
    let result = match &tried.round_trip {
        Ok(duration) => milliseconds(micros(duration)),
        Err(why) => why.clone(),
    };
    Ok(context.screen.line(format!("{}  {}  {result}", args.name, tried.address))?)
}

/// Says whether the policy is why: for an echo there is none to ask, since every permitted peer answers.
fn blame(context: &Context, args: &PingArgs) -> anyhow::Result<()> {
    let Some(port) = args.tcp else {
        return Ok(context.screen.line(
            "# the policy permits this peer, but its daemon does not answer: it is down, or UDP to its endpoint \
             does not get through",
        )?);
    };
    let explained = explain::fetch(context, &args.name, Service::Tcp(port), false)?;
    explain::show(context, &explained)?;
    if explain::is_allowed(&explained) {
        context
            .screen
            .line("# the policy permits it: on the peer, no program listens there, or its host refuses")?;
    }
    Ok(())
}
