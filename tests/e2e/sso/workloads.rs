//! Workloads by the token that their platform gives them: no secret is brought to them.

use std::path::PathBuf;

use bulkhead_tests::{Idp, Node, process, until};
use serde_json::{Value, json};

use super::{A_WHILE, AUDIENCE, Company};

fn token_file(company: &Company, name: &str, token: &str) -> PathBuf {
    let path = company.lab.folder().join(format!("{name}.jwt"));
    std::fs::write(&path, token).unwrap();
    path
}

/// `up --enrol-only` with this token.
pub(super) fn join(company: &Company, name: &str, token: &str) -> (Node, process::Output) {
    let node = Node::prepare(&company.lab, name).unwrap();
    let (invitation, token) = (company.invitation(name), token_file(company, name, token));
    let (invitation, token) = (invitation.to_string_lossy(), token.to_string_lossy());
    let up =
        ["up", "--enrol-only", "--name", name, "--identity-token-file", &token, "--invitation", &invitation];
    let output = process::run(&mut node.command(&up), A_WHILE).unwrap();
    (node, output)
}

/// As a CI service says it.
fn job(repository: &str) -> Value {
    json!({ "repository": repository, "ref": "refs/heads/main" })
}

#[test]
fn a_workload_joins_by_its_platforms_token_and_claims_become_labels() {
    let company = Company::start();
    let token =
        company.idp.workload_token("repo:acme/app:ref:refs/heads/main", AUDIENCE, &job("acme/app")).unwrap();
    let (mut node, output) = join(&company, "runner", &token);
    output.success().unwrap();
    assert_eq!(company.labels("runner"), json!({ "role": "web" }));
    node.start().unwrap();
    node.wait_connected();
    // A token is in no log, of whichever side.
    until("the log has the enrolment", A_WHILE, || company.coordinator.log().contains("runner"));
    for log in [company.coordinator.log(), node.log()] {
        assert!(!log.contains(&token));
    }
}

#[test]
fn d3_a_token_for_somebody_else_of_somebody_else_or_of_yesterday_enrols_nothing() {
    let company = Company::start();
    let stranger = Idp::start(&company.lab, "elsewhere", &company.ca, &[]).unwrap();
    let of = |idp: &Idp, audience: &str, repository: &str, more: &[&str]| {
        let claims = job(repository).to_string();
        let options = ["--subject", "s", "--audience", audience, "--claims", &claims];
        idp.mint(&[&options[..], more].concat()).unwrap()
    };
    let good = of(&company.idp, AUDIENCE, "acme/app", &[]);
    let mut forged = good.clone();
    forged.replace_range(good.len() - 8.., "AAAAAAAA");
    let hostile = [
        ("audience", of(&company.idp, "https://kubernetes.default.svc", "acme/app", &[])),
        ("repository", of(&company.idp, AUDIENCE, "eve/app", &[])),
        ("ended", of(&company.idp, AUDIENCE, "acme/app", &["--seconds=-3600"])),
        ("stranger", of(&stranger, AUDIENCE, "acme/app", &[])),
        ("forged", forged),
        ("garbage", "not.a.token".to_owned()),
    ];
    for (what, token) in &hostile {
        let (_node, output) = join(&company, what, token);
        assert!(!output.ok(), "{what}: {output:?}");
        assert!(!output.stderr.contains(token.as_str()), "{what}");
    }
    let nodes = company.coordinator.ctl_json(&["node", "list"]).unwrap();
    assert_eq!(nodes["nodes"], json!([]));
}
