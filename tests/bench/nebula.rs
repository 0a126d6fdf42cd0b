//! nebula with two certificates of a CA made for the run, no lighthouse, everything permitted.
//!
//! Its cipher is pinned to ChaCha20-Poly1305, as WireGuard's is: its default, AES-256-GCM, is several times faster on
//! CPUs with AES instructions, and would measure the cipher and not the design.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use bulkhead_tests::{Lab, Namespace, Process, process};

use crate::system::{Daemon, INNER_MTU, OVERLAY};
use crate::uapi::stands;

const PORT: u16 = 4242;

/// Starts a daemon in each host and waits until the tunnel between them stands.
pub(crate) fn join(lab: &Lab, hosts: &[Namespace; 2], program: &Path) -> Vec<Daemon> {
    let folder = lab.folder();
    let certify = |args: &[&str]| {
        let mut command = process::command(program.with_file_name("nebula-cert"), args);
        process::run(command.current_dir(folder), Duration::from_secs(10)).unwrap().success().unwrap();
    };
    certify(&["ca", "-name", "bench"]);
    let daemons = [0, 1].map(|i| {
        let (name, other) = (format!("end{i}"), 1 - i);
        certify(&["sign", "-name", &name, "-ip", &format!("{}/24", OVERLAY[i])]);
        let file = folder.join(format!("{name}.yml"));
        std::fs::write(&file, configuration(folder, &name, OVERLAY[other], hosts[other].v4)).unwrap();
        let mut command = hosts[i].command(program);
        let log = folder.join(format!("{name}.log"));
        Daemon { process: Process::start(command.arg("-config").arg(file), &log).unwrap(), socket: None }
    });
    stands(hosts);
    daemons.into()
}

fn configuration(folder: &Path, name: &str, overlay: Ipv4Addr, underlay: Ipv4Addr) -> String {
    let folder = folder.display();
    format!(
        "pki: {{ ca: {folder}/ca.crt, cert: {folder}/{name}.crt, key: {folder}/{name}.key }}\n\
         static_host_map: {{ \"{overlay}\": [\"{underlay}:{PORT}\"] }}\n\
         lighthouse: {{ am_lighthouse: false }}\n\
         listen: {{ host: 0.0.0.0, port: {PORT} }}\n\
         cipher: chachapoly\n\
         tun: {{ dev: nebula0, mtu: {INNER_MTU} }}\n\
         firewall:\n  \
           outbound: [ {{ port: any, proto: any, host: any }} ]\n  \
           inbound: [ {{ port: any, proto: any, host: any }} ]\n"
    )
}
