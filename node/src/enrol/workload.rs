//! Joining as a workload: the platform's word for it, a signed JSON Web Token in a file, in place of a person.
//!
//! Property: the token is read when everything else is ready, so that a short-lived one is fresh; it goes to a verified
//! coordinator and nowhere else, and no error quotes it.

use crate::enrol::entry::Entry;
use crate::enrol::{EnrolError, Enrolled, Joining};
use bulkhead_identity::NodeName;
use bulkhead_protocol::enrol::FinishResponse;
use bulkhead_protocol::signin::{MAX_WORKLOAD_TOKEN_BYTES, WorkloadEnrolment};
use std::io::Read as _;
use std::path::Path;
use zeroize::{Zeroize as _, Zeroizing};

const PATH_WORKLOAD: &str = "/enrol/v1/workload";

/// Enrols this host and saves the result. Blocks; must not be called from within an async runtime.
///
/// # Errors
/// See [`EnrolError`].
pub(crate) fn enrol(
    state: &Path,
    entry: &Entry,
    token_file: &Path,
    name: Option<&NodeName>,
) -> Result<Enrolled, EnrolError> {
    super::joining(state, async |store| {
        let mut joining = Joining::begin(entry).await?;
        let proof = joining.prove().await?;
        let mut body = WorkloadEnrolment {
            enrolment: proof.enrolment,
            request: proof.request,
            token: read(token_file)?.to_string(),
            name: name.map(|name| name.as_str().to_owned()),
        };
        let answer: Result<FinishResponse, _> = joining.call(PATH_WORKLOAD, &body).await;
        body.token.zeroize();
        joining.accept(store, answer?)
    })
}

fn read(file: &Path) -> Result<Zeroizing<String>, EnrolError> {
    let unreadable = |why: String| EnrolError::IdentityToken { path: file.into(), why };
    let mut text = Zeroizing::new(String::with_capacity(MAX_WORKLOAD_TOKEN_BYTES + 2));
    let limit = MAX_WORKLOAD_TOKEN_BYTES as u64 + 2;
    let read = std::fs::File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text));
    read.map_err(|error| unreadable(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(unreadable("it is empty".into()));
    }
    if token.len() > MAX_WORKLOAD_TOKEN_BYTES {
        return Err(unreadable(format!(
            "longer than {MAX_WORKLOAD_TOKEN_BYTES} bytes (MAX_WORKLOAD_TOKEN_BYTES)"
        )));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unreadable("it is no JSON Web Token".into()));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_read_whole_and_no_error_quotes_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        std::fs::write(&path, " aGVhZA.Ym9keQ.c2ln\n").unwrap();
        assert_eq!(read(&path).unwrap().as_str(), "aGVhZA.Ym9keQ.c2ln");
        let long = "x".repeat(MAX_WORKLOAD_TOKEN_BYTES + 1);
        for wrong in ["", "\n", "canary\nsecond line", "canary\u{0}", "canäry", &long] {
            std::fs::write(&path, wrong).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(
                error.contains("token")
                    && !error.contains("canary")
                    && !error.contains("canäry")
                    && error.len() < 300,
                "{error}"
            );
        }
    }
}
