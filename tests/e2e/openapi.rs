//! The published OpenAPI document, taken at its word: every route keeps what it promises, under requests that no client of
//! ours would send.

use std::time::Duration;

use bulkhead_identity::Trust;
use bulkhead_tests::{Coordinator, Lab, installed, process, source_root, web_ca};
use serde_json::json;

use crate::api::Api;
use crate::liar::wall;

/// Longer than tests/api/run gives itself.
const LIMIT: Duration = Duration::from_secs(400);

/// The coordinator's name in its certificate.
const HOST: &str = "main.acme.example";

#[test]
fn the_api_keeps_what_its_document_promises() {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    coordinator.token("spare", &["role=web"]).unwrap();
    coordinator.apply("version = 1\n").unwrap();

    // Its certificate is for its name in the trust domain, under a root that only the trust document tells.
    let trust =
        Trust::stored(&std::fs::read(coordinator.state().join("trust.cbor")).unwrap(), wall()).unwrap();
    let ca = lab.folder().join("root.pem");
    web_ca::write_pem(&ca, "CERTIFICATE", &trust.document().roots[0]).unwrap();
    coordinator.host.write_hosts(&format!("{} {HOST}\n", coordinator.host.v4)).unwrap();

    let run = |name: &str, options: &[&str]| {
        let wanted = json!({ "name": name, "role": "admin" });
        let (status, made) = Api::connect(&coordinator).post("/api/v1/keys", &wanted);
        assert_eq!(status, 200, "{made}");
        let key = lab.folder().join(name);
        std::fs::write(&key, made["key"].as_str().unwrap()).unwrap();

        let mut command = coordinator.host.command(source_root().join("tests/api/run"));
        command.arg(format!("https://{HOST}:8443/api/v1/openapi.json")).args(options);
        command.env("API_KEY_FILE", &key).env("API_CA", &ca);
        command.env("CARGO_TARGET_DIR", installed("api").unwrap().parent().unwrap());
        let output = process::run(&mut command, LIMIT).unwrap();
        assert!(output.ok(), "{}\n{}\n{}", output.stdout, output.stderr, coordinator.log());
    };
    // What may end the key that asks has a key of its own each time; no key opens what is local root's.
    let ends_keys = ["delete_session", "delete_keys_id"];
    let all_but = [&ends_keys[..], &["post_restore_accept"]].concat();
    run("all", &all_but.iter().flat_map(|route| ["--exclude-operation-id", route]).collect::<Vec<_>>());
    for route in ends_keys {
        run(route, &["--include-operation-id", route]);
    }
}
