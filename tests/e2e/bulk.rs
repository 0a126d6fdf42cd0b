//! Bulk and small traffic, every byte of it checked: over links that cut and join for us and links that do not, in
//! both families, and while offloads are switched under it.

use std::net::{IpAddr, SocketAddr};

use bulkhead_tests::{Node, SOON, until};

use crate::mesh::Mesh;
use crate::noise::{Stream, datagrams_of_sizes};

/// Enough for every kind of superpacket, and for the path's MTU to be found on the way.
const BYTES: u64 = 32 << 20;

/// Around what fits one packet of 1280 and of 1420, odd ones, and some that have to be fragmented.
const SIZES: [usize; 24] = [
    4, 5, 16, 17, 63, 64, 65, 200, 511, 512, 1000, 1231, 1232, 1233, 1252, 1253, 1371, 1372, 1373, 1392,
    1393, 2000, 4001, 8192,
];

fn set_link(node: &Node, on: bool) {
    let how = if on { "on" } else { "off" };
    let arguments = ["-K", "eth0", "tso", how, "gso", how, "gro", how];
    node.host.run("ethtool", &arguments).unwrap().success().unwrap();
}

fn addresses(node: &Node) -> [IpAddr; 2] {
    [node.v4().into(), node.v6().into()]
}

fn unharmed(mesh: &Mesh) {
    for address in addresses(&mesh.db) {
        let stream = Stream::start(&mesh.web, &mesh.db, SocketAddr::new(address, 5432));
        stream.carry(BYTES);
        stream.finish();
        datagrams_of_sizes(&mesh.web, &mesh.db, SocketAddr::new(address, 7000), &SIZES);
    }
}

#[test]
fn all_bytes_arrive_unharmed_over_links_with_offloads() {
    let mesh = Mesh::start();
    for node in [&mesh.web, &mesh.db] {
        set_link(node, true);
    }
    unharmed(&mesh);
}

#[test]
fn all_bytes_arrive_unharmed_over_links_without_offloads() {
    let mesh = Mesh::start();
    for node in [&mesh.web, &mesh.db] {
        set_link(node, false);
    }
    unharmed(&mesh);
}

/// Whether `node` says that it uses `offload`.
fn uses(node: &Node, offload: &str) -> bool {
    let status = node.json(&["status"]).unwrap();
    let offloads = status["node"]["offloads"].as_array().unwrap();
    offloads.iter().find(|one| one["name"] == offload).expect("status names every offload")["state"] == "on"
}

#[test]
fn offloads_are_switched_under_load_and_no_connection_notices() {
    const OFFLOADS: [&str; 4] = ["tun-tso", "tun-gro", "udp-gso", "udp-gro"];
    let mesh = Mesh::start();
    let nodes = [&mesh.web, &mesh.db];
    let before = OFFLOADS.map(|offload| nodes.map(|node| uses(node, offload)));
    let streams =
        addresses(&mesh.db).map(|address| Stream::start(&mesh.web, &mesh.db, SocketAddr::new(address, 5432)));
    let carry = || streams.iter().for_each(|stream| stream.carry(BYTES / 8));
    let switch = |how: &str, offloads: &str| {
        mesh.coordinator.ctl(&["node", "offloads", how, offloads]).unwrap().success().unwrap();
    };
    carry();
    for (offload, before) in OFFLOADS.into_iter().zip(before) {
        switch("--off", offload);
        until("it is off", SOON, || nodes.iter().all(|node| !uses(node, offload)));
        carry();
        switch("--on", offload);
        until("it is as before", SOON, || nodes.map(|node| uses(node, offload)) == before);
        carry();
    }
    switch("--off", &OFFLOADS.join(","));
    until("all are off", SOON, || {
        nodes.iter().all(|node| OFFLOADS.iter().all(|offload| !uses(node, offload)))
    });
    carry();
    for stream in streams {
        stream.finish();
    }
}
