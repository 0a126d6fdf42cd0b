//! Two hosts and nothing between them but a veth pair: no bridge, no router, so that what is measured is the tunnel.
//!
//! A third host (a coordinator, an attacker) hangs on one of the two by a cable of its own, so its traffic takes the
//! measured pair only where it has to.

use std::net::Ipv4Addr;

use bulkhead_tests::{Lab, Namespace};

/// The pair's interface in both hosts.
pub(crate) const INTERFACE: &str = "eth0";
const LEFT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// What the veth pair leaves to a segmenting tunnel. A veth passes whole superpackets, a network card does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Veth {
    /// As the kernel makes it: everything on.
    On,
    /// Every frame by itself.
    Off,
    /// Segmented by the sender, merged by the receiver: nearest to a network card.
    GroOnly,
}

impl Veth {
    pub(crate) const ALL: [Self; 3] = [Self::On, Self::Off, Self::GroOnly];

    /// As the command line and the JSON lines name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::GroOnly => "gro",
        }
    }

    pub(crate) fn set(self, hosts: [&Namespace; 2]) {
        let (send, receive) = match self {
            Self::On => ("on", "on"),
            Self::Off => ("off", "off"),
            Self::GroOnly => ("off", "on"),
        };
        // `gso off` leaves UDP superpackets whole, which is what tunnels send: they have a switch of their own.
        let send = ["tso", send, "gso", send, "tx-udp-segmentation", send];
        for host in hosts {
            let features = [&["-K", INTERFACE][..], &send, &["gro", receive]].concat();
            host.run("ethtool", &features).unwrap().success().unwrap();
        }
    }
}

/// Both ends, left and right.
pub(crate) fn pair(lab: &Lab) -> [Namespace; 2] {
    let hosts = [lab.island("left", LEFT).unwrap(), lab.island("right", RIGHT).unwrap()];
    lab.cable([(&hosts[0], INTERFACE, LEFT), (&hosts[1], INTERFACE, RIGHT)]).unwrap();
    hosts
}

/// A third host beside the left one, which forwards for it: 10.`subnet`.0.2.
pub(crate) fn beside_left(lab: &Lab, hosts: [&Namespace; 2], name: &str, subnet: u8) -> Namespace {
    let (near, far) = (Ipv4Addr::new(10, subnet, 0, 1), Ipv4Addr::new(10, subnet, 0, 2));
    let [left, right] = hosts;
    let third = lab.island(name, far).unwrap();
    lab.cable([(left, &format!("{name}0"), near), (&third, INTERFACE, far)]).unwrap();
    left.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]).unwrap().success().unwrap();
    right.ip(&["route", "add", &format!("10.{subnet}.0.0/24"), "via", &LEFT.to_string()]).unwrap();
    third.ip(&["route", "add", "default", "via", &near.to_string()]).unwrap();
    third
}
