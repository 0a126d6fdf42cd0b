//! A lab: one segment (a bridge in a namespace of its own), hosts on it, a folder for their state.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::namespace::{Namespace, ip};

/// One end of a cable: a host, the interface it gets, and its address there (in a /24).
pub type End<'a> = (&'a Namespace, &'a str, Ipv4Addr);

/// Hosts and their segment.
#[derive(Debug)]
pub struct Lab {
    id: String,
    // Dropped before the folder: a namespace goes, then its files.
    lan: Namespace,
    folder: TempDir,
    hosts: AtomicU16,
}

impl Lab {
    /// An empty segment.
    ///
    /// # Errors
    /// When not root, or when `ip` is missing.
    pub fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("bh-lab-").context("making the lab's folder")?;
        let unique = folder.path().to_string_lossy();
        let id = unique.rsplit('-').next().expect("the prefix ends in a dash").to_owned();
        let lan = Namespace::create(format!("bh-{id}-lan"), Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
            .context("end-to-end tests need root and iproute2: run `sudo tests/run`")?;
        lan.ip(&["link", "add", "br0", "type", "bridge"])?;
        lan.ip(&["link", "set", "br0", "up"])?;
        Ok(Self { id, lan, folder, hosts: AtomicU16::new(1) })
    }

    /// The lab's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new host on the segment: 10.66.0.N and fd66::N.
    ///
    /// # Errors
    /// When the namespace or its link cannot be made.
    pub fn host(&self, name: &str) -> Result<Namespace> {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let v4 = Ipv4Addr::new(10, 66, high, low);
        let v6 = Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, number);
        let host = Namespace::create(format!("bh-{}-{name}", self.id), v4, v6)?;
        let port = format!("p{number}");
        ip(&[
            "link",
            "add",
            &port,
            "netns",
            self.lan.name(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            host.name(),
        ])?;
        self.lan.ip(&["link", "set", &port, "master", "br0", "up"])?;
        // nodad: the address is usable at once.
        host.ip(&["addr", "add", &format!("{v4}/16"), "dev", "eth0"])?;
        host.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"])?;
        host.ip(&["link", "set", "eth0", "up"])?;
        Ok(host)
    }

    /// A new host without any link: [`Lab::cable`] joins it to others. `v4` is where they reach it.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn island(&self, name: &str, v4: Ipv4Addr) -> Result<Namespace> {
        Namespace::create(format!("bh-{}-{name}", self.id), v4, Ipv6Addr::UNSPECIFIED)
    }

    /// A veth pair straight from one host to another, past the bridge.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn cable(&self, ends: [End<'_>; 2]) -> Result<()> {
        let [(left, left_name, _), (right, right_name, _)] = ends;
        let left_end = ["link", "add", left_name, "netns", left.name(), "type", "veth"];
        ip(&[&left_end[..], &["peer", "name", right_name, "netns", right.name()]].concat())?;
        for (host, interface, address) in ends {
            host.ip(&["addr", "add", &format!("{address}/24"), "dev", interface])?;
            host.ip(&["link", "set", interface, "up"])?;
        }
        Ok(())
    }

    /// What the names of everything in this lab contain.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}
