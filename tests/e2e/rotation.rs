//! The root changes under load: a second root, an issuer under it, every node with another certificate, the first root
//! gone. No datagram is lost, no connection notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_identity::Certificate;
use bulkhead_tests::{Coordinator, Node, until};
use serde_json::Value;

use crate::load::{Echoes, reaches};
use crate::mesh::{Mesh, map_of};
use crate::office::{Office, apply_trust};
use crate::policy::{connect, echo_server};
use crate::renew::bulk;

/// Echoes a second: a gap of 10 ms would show.
const RATE: u32 = 100;
/// Long enough for a node to come back and to be given another certificate.
const LIMIT: Duration = Duration::from_secs(60);

fn roots(coordinator: &Coordinator) -> Vec<Value> {
    coordinator.ctl_json(&["trust", "show"]).unwrap()["roots"].as_array().unwrap().clone()
}

/// An issuer under the new root takes over from the one that runs.
fn replace_issuer(coordinator: &mut Coordinator, office: &Office) {
    let [request, answer] = ["request", "answer"].map(|file| office.path(file));
    let (key, root) = (office.path("second.key"), office.path("second.der"));
    coordinator.tool(&["issuer", "request", &request]).unwrap().success().unwrap();
    let sign =
        ["trust", "sign-issuer", &request, "--root-key", &key, "--root", &root, "--out", &answer, "--yes"];
    office.ctl(&sign).success().unwrap();
    coordinator.tool(&["issuer", "install", &answer]).unwrap().success().unwrap();
    coordinator.stop();
    coordinator.serve().unwrap();
}

/// Who issued the certificate under which `witness` knows `name`.
fn issuer_of(witness: &Node, name: &str) -> Vec<u8> {
    let map = map_of(witness);
    let peer = map.peers.values().find(|peer| peer.name.as_str() == name).unwrap();
    assert_eq!(Certificate::parse(peer.chain.leaf()).unwrap().claims.id.name.as_str(), name);
    peer.chain.certificates()[1].to_vec()
}

#[test]
fn the_root_is_replaced_under_load_and_no_packet_is_lost() {
    let mut mesh = Mesh::start();
    let office = Office::open(&mesh.lab, &mesh.coordinator);
    echo_server(&mesh.db, 5432);
    echo_server(&mesh.db, 9100);
    let old_token = mesh.coordinator.token("late", &["role=web"]).unwrap();
    // One is away until all is over, the other comes back in time.
    mesh.metrics.kill();
    mesh.intruder.kill();

    let stop = Arc::new(AtomicBool::new(false));
    let stream = bulk(connect(&mesh.web, (mesh.db.v4(), 5432).into()).unwrap(), stop.clone());
    let echoes = Echoes::start(&mesh.web, &mesh.db, 7000, RATE);
    let first_issuer = issuer_of(&mesh.db, "web");

    // Overlap: both roots are trusted.
    let first = roots(&mesh.coordinator)[0]["key"].as_str().unwrap().to_owned();
    let (key, root) = (office.path("second.key"), office.path("second.der"));
    let make = ["trust", "new-root", "--trust-domain", "acme.example", "--key", &key, "--out", &root];
    office.ctl(&make).success().unwrap();
    let draft = office.signed_draft(&mesh.coordinator, &["--add-root", &root]);
    apply_trust(&mesh.coordinator, &draft, &[], &[&mesh.web, &mesh.db]);

    replace_issuer(&mut mesh.coordinator, &office);
    // How many nodes are under the old root; of these, how many are there; how many are under the new one.
    let under = |old: u64, there: u64, new: u64| {
        let roots = roots(&mesh.coordinator);
        let of = |at: usize, what: &str| roots[at][what].as_u64().unwrap();
        (of(0, "nodes"), of(0, "connected"), of(1, "nodes")) == (old, there, new)
    };
    until("every node that is there has another certificate", LIMIT, || under(2, 0, 2));
    mesh.intruder.start().unwrap();
    until("a node that comes back in the overlap gets one, too", LIMIT, || under(1, 0, 3));
    until("and its peers know it by that", LIMIT, || issuer_of(&mesh.db, "web") != first_issuer);
    let before = echoes.heard();
    until("the overlap carries traffic", LIMIT, || echoes.heard() > before + 50);

    // The old root goes; the node that is still away would be cut, which is refused at first.
    let draft = office.signed_draft(&mesh.coordinator, &["--remove-root", &first]);
    let refused = mesh.coordinator.ctl(&["trust", "apply", &draft]).unwrap();
    assert!(!refused.ok(), "{refused:?}");
    assert!(refused.stderr.contains("metrics") && refused.stderr.contains("--without-nodes"), "{refused:?}");
    apply_trust(&mesh.coordinator, &draft, &["--without-nodes"], &[&mesh.web, &mesh.db, &mesh.intruder]);
    assert_eq!(roots(&mesh.coordinator).len(), 1);
    let before = echoes.heard();
    until("the new root alone carries traffic", LIMIT, || echoes.heard() > before + 200);

    stop.store(true, Ordering::Relaxed);
    let bytes = stream.join().unwrap();
    let tally = echoes.finish();
    eprintln!("{} echoes and {} MiB went through the change of roots", tally.sent, bytes >> 20);
    assert_eq!(tally.lost, [0; 0], "of {} echoes", tally.sent);
    assert!(tally.sent > 300 && bytes > 10 << 20);

    // New sessions, from certificates under the new root only.
    mesh.db.kill();
    mesh.db.start().unwrap();
    until("a restarted node is believed", LIMIT, || reaches(&mesh.web, (mesh.db.v4(), 5432)));
    // A token from before the change pins a trust document that is no longer in force: its successors lead on from it.
    let mut late = Node::prepare(&mesh.lab, "late").unwrap();
    late.start_with(&["--token-file", &old_token.to_string_lossy()]).unwrap();
    late.wait_connected();
    until("whoever joins with an old token is believed", LIMIT, || reaches(&late, (mesh.db.v4(), 5432)));

    // The one that was cut learns of the new root and is nobody under it. It enrols again, as the override said.
    mesh.metrics.start().unwrap();
    let newest = mesh.web.json(&["status"]).unwrap()["trust_version"].clone();
    until("the node that was cut learns of the change", LIMIT, || {
        mesh.metrics.json(&["status"]).is_ok_and(|status| status["trust_version"] == newest)
    });
    assert_eq!(mesh.metrics.json(&["status"]).unwrap()["coordinator"]["connected"], false);
    assert!(!reaches(&mesh.metrics, (mesh.db.v4(), 9100)));
    mesh.metrics.cli(&["leave", "--force", "--yes"]).unwrap().success().unwrap();
    until("it has left", LIMIT, || !mesh.metrics.process().running());
    for verb in [
        &["revoke", "metrics", "--reason", "cut by the change of roots", "--yes"][..],
        &["remove", "metrics", "--yes"],
    ] {
        mesh.coordinator.ctl(&[&["node"], verb].concat()).unwrap().success().unwrap();
    }
    let token = mesh.coordinator.token("metrics", &["role=metrics"]).unwrap();
    mesh.metrics.start_with(&["--token-file", &token.to_string_lossy()]).unwrap();
    mesh.metrics.wait_connected();
    until("it is back", LIMIT, || reaches(&mesh.metrics, (mesh.db.v4(), 9100)));
}
