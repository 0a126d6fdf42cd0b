//! Who the caller is: login by the bootstrap secret, logout, whoami; and the acceptance of a restore.

use super::body::read;
use super::{Api, Caller, Problem, answer, done};
use axum::extract::{Request, State};
use axum::response::Response;
use bulkhead_coordinator_engine::{AdminCall, Credential};

/// The bootstrap secret is the credential; any other is ignored.
pub(super) async fn login(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let login = read(request).await?;
    let caller = Caller { credential: Credential::Anonymous, ..caller };
    answer!(api.call(caller, AdminCall::Login(login)).await?, Session)
}

pub(super) async fn logout(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    done(&api.call(caller, AdminCall::Logout).await?)
}

pub(super) async fn whoami(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::WhoAmI).await?, WhoAmI)
}

pub(super) async fn accept_restore(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    done(&api.call(caller, AdminCall::AcceptRestore).await?)
}
