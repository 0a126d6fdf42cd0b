//! Kubernetes NetworkPolicies, imported by the real program: what the policy that comes out permits is what the
//! NetworkPolicies permit, evaluated here as their documentation says.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod classics;
mod cluster;
mod import;
mod random;
