//! What is measured: two hosts joined by one tunnel or another, ours first.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use bulkhead_tests::{Lab, Namespace, Process};

use crate::wire::{Veth, pair};
use crate::{mesh, nebula, uapi};

/// Overlay addresses of the two ends, where a tunnel has no opinion of its own.
pub(crate) const OVERLAY: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 65, 0, 1), Ipv4Addr::new(100, 65, 0, 2)];
/// What every tunnel gets: 1500 bytes of Ethernet less WireGuard's overhead over IPv6.
pub(crate) const INNER_MTU: &str = "1420";

/// The tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A coordinator and two nodes.
    Bulkhead,
    /// No tunnel: what the kernel and the load generator can do here.
    Veth,
    /// The boringtun that its users install, with its four threads.
    Boringtun,
    /// The same with one thread.
    BoringtunOneThread,
    /// Mullvad's successor of boringtun.
    Gotatun,
    /// WireGuard's own, in Go.
    WireguardGo,
    /// The mesh by Slack, with its ChaCha20-Poly1305.
    Nebula,
}

impl Kind {
    /// In the order of the table. Ours comes first: everyone else is compared with it.
    pub(crate) const ALL: [Self; 7] = [
        Self::Bulkhead,
        Self::Veth,
        Self::WireguardGo,
        Self::Gotatun,
        Self::Nebula,
        Self::Boringtun,
        Self::BoringtunOneThread,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulkhead => "bulkhead",
            Self::Veth => "veth",
            Self::Boringtun => "boringtun",
            Self::BoringtunOneThread => "boringtun-1",
            Self::Gotatun => "gotatun",
            Self::WireguardGo => "wireguard-go",
            Self::Nebula => "nebula",
        }
    }

    /// Whose program must be there.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Bulkhead | Self::Veth => None,
            Self::Boringtun | Self::BoringtunOneThread => Some("boringtun-cli"),
            Self::Gotatun => Some("gotatun"),
            Self::WireguardGo => Some("wireguard-go"),
            Self::Nebula => Some("nebula"),
        }
    }
}

/// A program in the folder of peers, or else in the path.
pub(crate) fn find(program: &str, peers: Option<&Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = peers.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// A peer's daemon, and the file that it would leave behind.
pub(crate) struct Daemon {
    pub(crate) process: Process,
    pub(crate) socket: Option<PathBuf>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill();
        if let Some(socket) = &self.socket {
            // Gone already, if the daemon removed it.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Who owns the hosts.
enum Ends {
    // The daemons end before their hosts go.
    Plain { _daemons: Vec<Daemon>, hosts: [Namespace; 2] },
    Ours(Box<mesh::Mesh>),
}

/// Two hosts joined; everything ends when it is dropped.
pub(crate) struct System {
    pub(crate) kind: Kind,
    /// Where the right end is reached through the tunnel.
    pub(crate) target: Ipv4Addr,
    /// The daemons of both ends; of ours, not the coordinator, which forwards nothing.
    pub(crate) pids: Vec<u32>,
    ends: Ends,
    lab: Lab,
}

impl System {
    /// `None`: its program is not here.
    pub(crate) fn start(kind: Kind, peers: Option<&Path>) -> Option<Self> {
        let program = match kind.program() {
            Some(name) => Some(find(name, peers)?),
            None => None,
        };
        let lab = Lab::new().unwrap();
        if kind == Kind::Bulkhead {
            let mut mesh = mesh::Mesh::start(&lab, &mesh::permissive(0));
            let (target, pids) = (mesh.target(), mesh.pids());
            return Some(Self { kind, target, pids, ends: Ends::Ours(Box::new(mesh)), lab });
        }
        let hosts = pair(&lab);
        let daemons = match (kind, &program) {
            (Kind::Nebula, Some(program)) => nebula::join(&lab, &hosts, program),
            (Kind::BoringtunOneThread, Some(program)) => {
                uapi::join(&lab, &hosts, program, &[("WG_THREADS", "1")])
            }
            (_, Some(program)) => uapi::join(&lab, &hosts, program, &[]),
            (_, None) => Vec::new(),
        };
        let target = if daemons.is_empty() { hosts[1].v4 } else { OVERLAY[1] };
        let pids = daemons.iter().map(|daemon| daemon.process.id()).collect();
        Some(Self { kind, target, pids, ends: Ends::Plain { _daemons: daemons, hosts }, lab })
    }

    /// A mesh of ours that was made elsewhere.
    pub(crate) fn of_mesh(lab: Lab, mut mesh: mesh::Mesh) -> Self {
        let (target, pids) = (mesh.target(), mesh.pids());
        Self { kind: Kind::Bulkhead, target, pids, ends: Ends::Ours(Box::new(mesh)), lab }
    }

    fn hosts(&self) -> [&Namespace; 2] {
        match &self.ends {
            Ends::Plain { hosts: [left, right], .. } => [left, right],
            Ends::Ours(mesh) => mesh.hosts(),
        }
    }

    pub(crate) fn left(&self) -> &Namespace {
        self.hosts()[0]
    }

    pub(crate) fn right(&self) -> &Namespace {
        self.hosts()[1]
    }

    pub(crate) fn set_veth(&self, veth: Veth) {
        veth.set(self.hosts());
    }

    /// A file for what a program of the measurement says.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.lab.folder().join(format!("{name}.log"))
    }
}
