//! What policy permits works: PostgreSQL by name, a large file, both address families, UDP and ICMP.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bulkhead_tests::{Namespace, Node, Process, SOON, process, until};

use crate::mesh::Mesh;

/// A real PostgreSQL in a node's host, on every address of it.
pub(crate) struct Postgres {
    process: Process,
}

impl Postgres {
    pub(crate) fn start(host: &Namespace, folder: &Path) -> Self {
        let bin = postgres_bin();
        let data = folder.join("pg");
        std::fs::create_dir(&data).unwrap();
        run_ok(Command::new("chown").arg("postgres").arg(&data));
        // The lab's folder is 0700 for root: PostgreSQL must be able to pass through it.
        for ancestor in data.ancestors().skip(1).take_while(|p| *p != Path::new("/tmp")) {
            std::fs::set_permissions(ancestor, std::fs::Permissions::from_mode(0o711)).unwrap();
        }
        let as_postgres = |program: &Path| {
            let mut command = host.command("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
            command
        };
        run_ok(as_postgres(&bin.join("initdb")).arg("-D").arg(&data).args(["-A", "trust", "--no-sync"]));
        std::fs::write(data.join("pg_hba.conf"), "host all all all trust\n").unwrap();
        let mut command = as_postgres(&bin.join("postgres"));
        command.arg("-D").arg(&data).args(["-c", "listen_addresses=*", "-c", "unix_socket_directories="]);
        let process = Process::start(&mut command, &folder.join("pg.log")).unwrap();
        until("PostgreSQL answers", Duration::from_secs(30), || {
            host.run("psql", &["-h", "127.0.0.1", "-U", "postgres", "-Atc", "select 1"]).is_ok_and(|o| o.ok())
        });
        Self { process }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A clean end: PostgreSQL's children end with it.
        self.process.terminate(Duration::from_secs(10));
    }
}

fn postgres_bin() -> PathBuf {
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|e| e.unwrap().path().join("bin")).collect();
    versions.sort();
    versions.pop().expect("tests/run installs PostgreSQL")
}

fn run_ok(command: &mut Command) {
    process::run(command, Duration::from_secs(120)).unwrap().success().unwrap();
}

/// Points a host's resolver at the mesh's.
pub(crate) fn use_mesh_names(node: &Node) {
    let status = node.json(&["status"]).unwrap();
    let resolver = status["node"]["resolvers"][0].as_str().unwrap().to_owned();
    node.host.write_resolv_conf(&format!("nameserver {resolver}\n")).unwrap();
}

#[test]
fn psql_by_name_runs_queries_over_both_families() {
    let mesh = Mesh::start();
    let _postgres = Postgres::start(&mesh.db.host, mesh.db.folder());
    use_mesh_names(&mesh.web);
    let psql = |host: &str| {
        mesh.web
            .host
            .run(
                "psql",
                &["-h", host, "-U", "postgres", "-Atc", "select sum(n) from generate_series(1,100000) n"],
            )
            .unwrap()
    };
    assert_eq!(psql("db.acme.example").success().unwrap().trim(), "5000050000");
    assert_eq!(psql(&mesh.db.v4().to_string()).success().unwrap().trim(), "5000050000");
    assert_eq!(psql(&mesh.db.v6().to_string()).success().unwrap().trim(), "5000050000");
    // A name that the node may not talk to does not exist for it.
    let unknown = psql("intruder.acme.example");
    assert!(!unknown.ok() && unknown.stderr.contains("translate host name"), "{unknown:?}");
}

#[test]
fn curl_fetches_a_gigabyte_from_nginx_unharmed() {
    let mesh = Mesh::start();
    let folder = mesh.db.folder();
    let file = folder.join("www/big");
    std::fs::create_dir(folder.join("www")).unwrap();
    write_noise(&file, 1 << 30);
    for path in [mesh.lab.folder(), folder.as_path(), &folder.join("www")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let conf = folder.join("nginx.conf");
    std::fs::write(
        &conf,
        format!(
            "daemon off; pid {0}/nginx.pid; error_log {0}/nginx.err; events {{}}\n\
             http {{ access_log off; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3;\n\
             uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5; server {{ listen 80; listen [::]:80; root {0}/www; }} }}\n",
            folder.display()
        ),
    )
    .unwrap();
    let mut nginx =
        Process::start(mesh.db.host.command("nginx").arg("-c").arg(&conf), &folder.join("nginx.log"))
            .unwrap();
    until("nginx answers", SOON, || {
        mesh.db
            .host
            .run("curl", &["-sfo", "/dev/null", "-r", "0-0", "http://127.0.0.1/big"])
            .is_ok_and(|o| o.ok())
    });
    let wanted = sha256(&file);
    for url in [format!("http://{}/big", mesh.db.v4()), format!("http://[{}]/big", mesh.db.v6())] {
        let copy = mesh.web.folder().join("copy");
        let mut curl = mesh.web.host.command("curl");
        curl.args(["-sSf", "--max-time", "240", "-o"]).arg(&copy).arg(&url);
        process::run(&mut curl, Duration::from_secs(250)).unwrap().success().unwrap();
        assert_eq!(sha256(&copy), wanted, "{url}");
        std::fs::remove_file(&copy).unwrap();
    }
    nginx.terminate(Duration::from_secs(10));
}

/// Bytes that neither compress nor repeat (a 64-bit LCG, constants of Knuth's MMIX).
fn write_noise(path: &Path, bytes: usize) {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    let mut state = 0x5eed_u64;
    for _ in 0..bytes / 8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.write_all(&state.to_le_bytes()).unwrap();
    }
    out.flush().unwrap();
}

fn sha256(path: &Path) -> String {
    let output = process::run(Command::new("sha256sum").arg(path), Duration::from_secs(60)).unwrap();
    output.success().unwrap().split(' ').next().unwrap().to_owned()
}

/// Sends a datagram from one host to a listening one; whether it was answered, and the answer came back.
fn udp_echo(from: &Node, to: &Node, address: IpAddr, port: u16) -> (bool, bool) {
    let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    let server = to.host.inside(|| UdpSocket::bind((any, port)).unwrap()).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        server.recv_from(&mut buffer).is_ok_and(|(n, peer)| server.send_to(&buffer[..n], peer).is_ok())
    });
    let heard = from
        .host
        .inside(|| {
            let client = UdpSocket::bind((any, 0)).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            // A refusal may already come back as an ICMP error on the send.
            if client.send_to(b"ping", SocketAddr::new(address, port)).is_err() {
                return false;
            }
            let mut buffer = [0; 64];
            client.recv(&mut buffer).is_ok_and(|n| &buffer[..n] == b"ping")
        })
        .unwrap();
    (answering.join().unwrap(), heard)
}

#[test]
fn udp_and_echo_go_as_policy_says() {
    let mesh = Mesh::start();
    for address in [IpAddr::from(mesh.db.v4()), IpAddr::from(mesh.db.v6())] {
        until(&format!("permitted: {address}"), SOON, || {
            udp_echo(&mesh.web, &mesh.db, address, 7000) == (true, true)
        });
        for (from, port, what) in
            [(&mesh.web, 7001, "another port"), (&mesh.metrics, 7000, "another identity")]
        {
            assert_eq!(udp_echo(from, &mesh.db, address, port), (false, false), "{what}: {address}");
        }
        let ping = |node: &Node| node.host.run("ping", &["-c1", "-W2", &address.to_string()]).unwrap().ok();
        until(&format!("echo is permitted: {address}"), SOON, || ping(&mesh.web));
        assert!(!ping(&mesh.metrics), "echo obeys policy like any service: {address}");
        assert!(!ping(&mesh.intruder), "nothing from the intruder: {address}");
    }
}

#[test]
fn a_denied_application_learns_at_once() {
    let mesh = Mesh::start();
    let started = std::time::Instant::now();
    let result = mesh
        .web
        .host
        .inside(|| std::net::TcpStream::connect_timeout(&(mesh.db.v4(), 22).into(), Duration::from_secs(10)))
        .unwrap();
    // Without the reset towards its own host it would wait for the whole ten seconds.
    assert!(result.is_err() && started.elapsed() < Duration::from_secs(9), "{result:?}");
}

#[test]
fn packets_of_1420_pass_unfragmented_once_the_path_is_known() {
    let mesh = Mesh::start();
    let address = mesh.db.v4().to_string();
    let ping = |payload: &str| {
        mesh.web.host.run("ping", &["-c1", "-W2", "-Mdo", "-s", payload, &address]).unwrap().ok()
    };
    // Each end finds out for itself, and the answer is as long as the question.
    for (node, other) in [(&mesh.web, &mesh.db), (&mesh.db, &mesh.web)] {
        until("a path over Ethernet carries 1420", SOON, || {
            let status = ping("56").then(|| node.json(&["status"]).unwrap());
            let peers = status.as_ref().and_then(|status| status["peers"].as_array());
            peers.is_some_and(|peers| {
                peers.iter().any(|peer| peer["name"] == other.name.as_str() && peer["mtu"] == 1420)
            })
        });
    }
    // IPv4 and ICMP headers make 28 more.
    until("1420 pass", SOON, || ping("1392"));
    assert!(!ping("1393"));
}
