//! The published OpenAPI document, taken at its word: every route keeps what it promises, under requests that no client of
//! ours would send.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bulkhead_identity::Trust;
use bulkhead_tests::{Coordinator, Lab, installed, process, source_root, web_ca};
use serde_json::json;

use crate::api::Api;
use crate::liar::wall;

/// Longer than tests/api/run gives itself.
const LIMIT: Duration = Duration::from_secs(400);

#[test]
fn the_api_keeps_what_its_document_promises() {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    coordinator.token("spare", &["role=web"]).unwrap();
    coordinator.apply("version = 1\n").unwrap();

    let (status, made) =
        Api::connect(&coordinator).post("/api/v1/keys", &json!({ "name": "schemathesis", "role": "admin" }));
    assert_eq!(status, 200, "{made}");
    let key = lab.folder().join("api.key");
    std::fs::write(&key, made["key"].as_str().unwrap()).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();

    // Its certificate is for its name in the trust domain, under a root that only the trust document tells.
    let trust =
        Trust::stored(&std::fs::read(coordinator.state().join("trust.cbor")).unwrap(), wall()).unwrap();
    let ca = lab.folder().join("root.pem");
    web_ca::write_pem(&ca, "CERTIFICATE", &trust.document().roots[0]).unwrap();
    let name = "main.acme.example";
    coordinator.host.write_hosts(&format!("{} {name}\n", coordinator.host.v4)).unwrap();

    let mut command = coordinator.host.command(source_root().join("tests/api/run"));
    command.arg(format!("https://{name}:8443/api/v1/openapi.json"));
    command.env("API_KEY_FILE", &key).env("API_CA", &ca);
    command.env("CARGO_TARGET_DIR", installed("api").unwrap().parent().unwrap());
    let output = process::run(&mut command, LIMIT).unwrap();
    assert!(output.ok(), "{}\n{}\n{}", output.stdout, output.stderr, coordinator.log());
}
