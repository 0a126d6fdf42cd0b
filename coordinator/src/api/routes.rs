//! The table of routes: every route there is, and who may call it. `bulkheadctl role table`, the OpenAPI document and
//! the tests that walk routes and roles (S1) are made from it.

use super::route::{Answer, QueryNumber, Route, delete, get, post, put};
use super::{
    Access, audit, enrol, flows, health, keys, nodes, openapi, policy, session, signin, tokens, trust,
};
use bulkhead_protocol::admin::{
    AckStatus, Applied, AuditPage, AuditVerified, Can, CanAnswer, CheckReport, Confirm, CreateKey,
    CreateToken, CreatedKey, CreatedToken, KeyList, LiveFlows, Login, Node, NodeList, OffloadsOff,
    PendingList, PolicyCurrent, PolicyHistory, PolicyText, Reject, Revoke, RevokeStatus, Rollback, Session,
    SetLabels, SetSeal, SwitchOffloads, TokenList, TrustApply, TrustView, WhoAmI,
};
use bulkhead_protocol::enrol::{BeginRequest, BeginResponse, FinishRequest, FinishResponse};
use bulkhead_protocol::signin::{
    DeviceAuthorization, EnrolSignIn, LoginSignIn, Poll, PollState, WorkloadEnrolment,
};

const PAGE: &[QueryNumber] = &[
    QueryNumber { name: "after", what: "Entries after this sequence number." },
    QueryNumber { name: "limit", what: "At most so many entries; the coordinator may answer with fewer." },
];

/// Every route there is.
#[must_use]
pub fn routes() -> Vec<Route> {
    use Access::{Admin, LocalRoot, Operator, Public, Viewer};
    vec![
        get("/api/v1/health", Public, health, "Whether the coordinator answers").answers(Answer::Object),
        get("/api/v1/openapi.json", Public, openapi::document, "This document").answers(Answer::Object),
        get("/enrol/v1/trust/{hash}", Public, enrol::trust, "Fetch trust documents by the first one's hash")
            .answers(Answer::Cbor)
            .refuses(&[404]),
        post("/enrol/v1/begin", Public, enrol::begin, "Ask for a challenge to enrol")
            .takes::<BeginRequest>()
            .gives::<BeginResponse>()
            .refuses(&[422]),
        post("/enrol/v1/finish", Public, enrol::finish, "Enrol by the proofs and a join token")
            .takes::<FinishRequest>()
            .gives::<FinishResponse>()
            .refuses(&[403, 404, 409, 422]),
        post(
            "/enrol/v1/signin",
            Public,
            signin::enrol,
            "Ask for a code by which a person enrols this machine",
        )
        .takes::<EnrolSignIn>()
        .gives::<DeviceAuthorization>()
        .refuses(&[403, 404, 409, 429]),
        post("/enrol/v1/workload", Public, enrol::workload, "Enrol by the proofs and a workload's token")
            .takes::<WorkloadEnrolment>()
            .gives::<FinishResponse>()
            .refuses(&[403, 404, 409, 422]),
        post("/enrol/v1/signin/poll", Public, signin::poll, "Ask how far a person's sign-in is")
            .takes::<Poll>()
            .gives::<PollState>()
            .refuses(&[404, 409, 429]),
        post("/api/v1/signin", Public, signin::login, "Ask for a code by which an administrator logs in")
            .takes::<LoginSignIn>()
            .gives::<DeviceAuthorization>()
            .refuses(&[404]),
        post("/api/v1/signin/poll", Public, signin::poll, "Ask how far an administrator's sign-in is")
            .takes::<Poll>()
            .gives::<PollState>()
            .refuses(&[404, 409, 429]),
        post("/api/v1/session", Public, session::login, "Log in by the bootstrap secret")
            .takes::<Login>()
            .gives::<Session>()
            .refuses(&[401]),
        delete("/api/v1/session", Viewer, session::logout, "End the session of the calling key")
            .refuses(&[400]),
        get("/api/v1/whoami", Viewer, session::whoami, "Show who the caller is").gives::<WhoAmI>(),
        post(
            "/api/v1/restore/accept",
            LocalRoot,
            session::accept_restore,
            "Leave read-only mode after a restore",
        )
        .refuses(&[409]),
        get("/api/v1/nodes", Viewer, nodes::list, "List nodes").gives::<NodeList>(),
        get("/api/v1/nodes/pending", Viewer, nodes::pending, "List nodes that wait for an administrator")
            .gives::<PendingList>(),
        post("/api/v1/nodes/{name}/approve", Operator, nodes::approve, "Make a node of one that waits")
            .gives::<Node>()
            .refuses(&[404, 409, 422]),
        post("/api/v1/nodes/{name}/reject", Operator, nodes::reject, "Refuse a node that waits")
            .takes::<Reject>()
            .refuses(&[404]),
        get("/api/v1/nodes/{name}", Viewer, nodes::show, "Show a node").gives::<Node>().refuses(&[404]),
        delete("/api/v1/nodes/{name}", Admin, nodes::remove, "Forget a revoked node").refuses(&[404, 409]),
        put("/api/v1/nodes/{name}/labels", Operator, nodes::label, "Set and remove labels of a node")
            .takes::<SetLabels>()
            .gives::<Node>()
            .refuses(&[404, 409, 422]),
        put("/api/v1/nodes/{name}/seal", Admin, trust::seal, "Give a node the labels that operators sealed")
            .takes::<SetSeal>()
            .gives::<Node>()
            .refuses(&[404, 409, 422]),
        post("/api/v1/nodes/{name}/revoke", Operator, nodes::revoke, "Cut a node off")
            .takes::<Revoke>()
            .gives::<RevokeStatus>()
            .refuses(&[404, 409]),
        put(
            "/api/v1/nodes/{name}/offloads",
            Operator,
            nodes::switch_offloads_of,
            "Switch offloads of a node",
        )
        .takes::<SwitchOffloads>()
        .gives::<OffloadsOff>()
        .refuses(&[404, 409]),
        get("/api/v1/offloads", Viewer, nodes::offloads, "Show which offloads are off")
            .gives::<OffloadsOff>(),
        put("/api/v1/offloads", Operator, nodes::switch_offloads, "Switch offloads of every node")
            .takes::<SwitchOffloads>()
            .gives::<OffloadsOff>(),
        get("/api/v1/revocations/{epoch}", Viewer, nodes::revocation, "Show who knows of a revocation")
            .gives::<RevokeStatus>()
            .refuses(&[404]),
        get("/api/v1/tokens", Viewer, tokens::list, "List join tokens").gives::<TokenList>(),
        post("/api/v1/tokens", Operator, tokens::create, "Make a join token")
            .takes::<CreateToken>()
            .gives::<CreatedToken>()
            .refuses(&[429]),
        delete("/api/v1/tokens/{id}", Operator, tokens::revoke, "Revoke a join token").refuses(&[404]),
        get("/api/v1/keys", Viewer, keys::list, "List API keys").gives::<KeyList>(),
        post("/api/v1/keys", Admin, keys::create, "Make an API key")
            .takes::<CreateKey>()
            .gives::<CreatedKey>()
            .refuses(&[409, 429]),
        delete("/api/v1/keys/{id}", Admin, keys::revoke, "Revoke an API key").refuses(&[404, 409]),
        get("/api/v1/policy", Viewer, policy::show, "Show the policy in force").gives::<PolicyCurrent>(),
        post("/api/v1/policy", Admin, policy::apply, "Apply a policy")
            .takes::<PolicyText>()
            .gives::<Applied>()
            .refuses(&[404, 409, 422, 429]),
        post("/api/v1/policy/check", Operator, policy::check, "Check a policy")
            .takes::<PolicyText>()
            .gives::<CheckReport>()
            .refuses(&[422, 429]),
        post("/api/v1/policy/confirm", Admin, policy::confirm, "Confirm the policy in force")
            .takes::<Confirm>()
            .gives::<Applied>()
            .refuses(&[404, 409, 422]),
        get("/api/v1/policy/history", Viewer, policy::history, "List earlier policies")
            .gives::<PolicyHistory>(),
        post("/api/v1/policy/rollback", Admin, policy::rollback, "Go back to an earlier policy")
            .takes::<Rollback>()
            .gives::<Applied>()
            .refuses(&[404, 409, 422]),
        post("/api/v1/policy/can", Viewer, policy::can, "Ask whether a node may reach another")
            .takes::<Can>()
            .gives::<CanAnswer>()
            .refuses(&[404, 422]),
        get("/api/v1/policy/ack/{generation}", Viewer, policy::acknowledged, "Show who enforces a policy")
            .gives::<AckStatus>()
            .refuses(&[404]),
        get("/api/v1/flows", Viewer, flows::live, "List live flows").gives::<LiveFlows>().refuses(&[429]),
        get("/api/v1/trust", Viewer, trust::show, "Show the trust document").gives::<TrustView>(),
        post("/api/v1/trust", Admin, trust::apply, "Put the next trust document in force")
            .takes::<TrustApply>()
            .gives::<TrustView>()
            .refuses(&[409, 422]),
        get("/api/v1/audit", Viewer, audit::page, "Read the audit log").gives::<AuditPage>().query(PAGE),
        get("/api/v1/audit/verify", Viewer, audit::verify, "Verify the chain of the audit log")
            .gives::<AuditVerified>(),
    ]
}
