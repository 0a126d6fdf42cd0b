//! The conversation between node, coordinator and administrator: decoding what was encoded gives the same, and
//! no limit is exceeded by what was decoded.

use std::fmt::Debug;

use bulkhead_identity::NodeName;
use bulkhead_protocol::admin;
use bulkhead_protocol::control::{MAX_ENDPOINTS, MAX_REPORTED_FLOWS, MAX_TEXT_BYTES, ToCoordinator, ToNode};
use bulkhead_protocol::enrol::{ApiError, BeginRequest, BeginResponse, FinishRequest, FinishResponse};
use bulkhead_protocol::frame::{self, FrameError, HEADER_BYTES, MAX_FRAME_BYTES};
use bulkhead_protocol::map::{MapPeer, MapUpdate, PeerMap};
use bulkhead_protocol::receipt::Receipt;
use bulkhead_protocol::token::{MAX_COORDINATORS, Token, is_address};
use data_encoding::BASE64URL_NOPAD;
use minicbor::{Decode, Encode};
use serde::{Serialize, de::DeserializeOwned};

use super::deployment::{receipt as honest_receipt, receipt_key};

/// A stream of frames, as QUIC hands it over: lengths first, bodies of either direction.
pub fn frame(data: &[u8]) -> bool {
    let mut understood = false;
    for body in bodies(data) {
        understood |= to_node(body) | to_coordinator(body);
    }
    understood
}

/// A message to a node.
pub fn to_node(data: &[u8]) -> bool {
    let Some(message) = read_again::<ToNode>(data) else { return false };
    match message {
        ToNode::Refused { what, why } => assert_printable(&[&what, &why]),
        ToNode::Map(update) => assert_bounded(&update),
        ToNode::Welcome { .. }
        | ToNode::Trust { .. }
        | ToNode::Policy { .. }
        | ToNode::Revocations { .. }
        | ToNode::RenewChallenge { .. }
        | ToNode::Certificate { .. }
        | ToNode::WantFlows { .. }
        | ToNode::Offloads { .. } => {}
    }
    true
}

/// A message to the coordinator.
pub fn to_coordinator(data: &[u8]) -> bool {
    let Some(message) = read_again::<ToCoordinator>(data) else { return false };
    match message {
        ToCoordinator::Hello { endpoints, software, .. } => {
            assert!(endpoints.len() <= MAX_ENDPOINTS);
            assert_printable(&[&software]);
        }
        ToCoordinator::Endpoints { endpoints, .. } => assert!(endpoints.len() <= MAX_ENDPOINTS),
        ToCoordinator::Refused { what, why } => assert_printable(&[&what, &why]),
        ToCoordinator::Flows { flows, .. } => assert!(flows.len() <= MAX_REPORTED_FLOWS),
        ToCoordinator::Acknowledge { .. }
        | ToCoordinator::WantSnapshot
        | ToCoordinator::RenewBegin
        | ToCoordinator::RenewFinish { .. }
        | ToCoordinator::Leave => {}
    }
    true
}

/// Map updates, one frame each, applied in their order: the map is what the update says, and the difference of
/// two maps leads from the one to the other.
pub fn map(data: &[u8]) -> bool {
    let mut held = PeerMap::default();
    let mut applied = false;
    for update in bodies(data).filter_map(read_again::<MapUpdate>) {
        assert_bounded(&update);
        let Ok(next) = held.apply(update.clone()) else { continue };
        assert_follows(&held, &update, &next);
        assert_eq!(PeerMap::default().apply(next.snapshot()).as_ref(), Ok(&next));
        assert_eq!(held.apply(held.diff(&next)).as_ref(), Ok(&next));
        held = next;
        applied = true;
    }
    applied
}

fn assert_follows(held: &PeerMap, update: &MapUpdate, next: &PeerMap) {
    let has = |peer: &MapPeer| next.peers.get(&peer.name).is_some_and(|held| **held == *peer);
    match update {
        MapUpdate::Snapshot { sequence, peers } => {
            assert_eq!(next.sequence, *sequence);
            assert_eq!(next.peers.len(), peers.len());
            assert!(peers.iter().all(has));
        }
        MapUpdate::Delta { base, next: sequence, removed, upserted } => {
            assert_eq!((held.sequence, next.sequence), (*base, *sequence));
            assert!(upserted.iter().all(has));
            let renewed = |name: &NodeName| upserted.iter().any(|peer| peer.name == *name);
            assert!(removed.iter().all(|name| renewed(name) || !next.peers.contains_key(name)));
        }
    }
}

/// A receipt: only what the node's key signed is one.
pub fn receipt(data: &[u8]) -> bool {
    let Some(receipt) = read_again::<Receipt>(data) else { return false };
    let accepted = receipt.verify(&receipt_key().public());
    assert!(!accepted || receipt == honest_receipt(), "forged: {receipt:?}");
    accepted
}

/// A token as it is pasted, or the bytes inside one.
pub fn token(data: &[u8]) -> bool {
    let mut texts = vec![String::from_utf8_lossy(data).into_owned()];
    for prefix in ["bulkhead1.", "bulkhead-admin1."] {
        texts.push(format!("{prefix}{}", BASE64URL_NOPAD.encode(data)));
    }
    let tokens = texts.iter().filter_map(|text| Token::parse(text).ok());
    tokens.inspect(assert_token_survives).count() > 0
}

fn assert_token_survives(token: &Token) {
    assert!((1..=MAX_COORDINATORS).contains(&token.coordinators.len()));
    assert!(token.coordinators.iter().all(|address| is_address(address)));
    let read = Token::parse(&token.encode()).unwrap();
    assert_eq!((read.kind, read.trust), (token.kind, token.trust));
    assert_eq!(read.coordinators, token.coordinators);
    assert_eq!(read.secret, token.secret);
}

/// The body of an HTTP request or response, of whatever endpoint.
pub fn api_body(data: &[u8]) -> bool {
    let bodies: &[fn(&[u8]) -> bool] = &[
        json_again::<BeginRequest>,
        json_again::<BeginResponse>,
        json_again::<FinishRequest>,
        json_again::<FinishResponse>,
        json_again::<ApiError>,
        json_again::<admin::Login>,
        json_again::<admin::CreateToken>,
        json_again::<admin::SetLabels>,
        json_again::<admin::SwitchOffloads>,
        json_again::<admin::OffloadsOff>,
        json_again::<admin::Revoke>,
        json_again::<admin::PolicyText>,
        json_again::<admin::Rollback>,
        json_again::<admin::Confirm>,
        json_again::<admin::SignedPolicy>,
        json_again::<admin::PolicyCurrent>,
        json_again::<admin::LiveFlows>,
        json_again::<admin::TrustApply>,
        json_again::<admin::SetSeal>,
        json_again::<admin::Can>,
        json_again::<admin::NodeList>,
        json_again::<admin::AuditPage>,
    ];
    // Each is tried: one text may be a body of several endpoints.
    bodies.iter().filter(|body| body(data)).count() > 0
}

/// The bodies of a stream of frames, up to the first that is refused or incomplete.
pub(super) fn bodies(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (header, tail) = rest.split_first_chunk::<HEADER_BYTES>()?;
        match frame::length(*header) {
            Ok(length) => {
                assert!(length <= MAX_FRAME_BYTES);
                let (body, after) = tail.split_at_checked(length)?;
                rest = after;
                Some(body)
            }
            Err(FrameError::TooLong(announced)) => {
                assert!(announced > MAX_FRAME_BYTES);
                None
            }
            Err(FrameError::Malformed(why)) => panic!("a length is too long or not: {why}"),
        }
    })
}

/// Decodes a message, and the same again from its own encoding.
pub(super) fn read_again<T>(body: &[u8]) -> Option<T>
where
    T: for<'b> Decode<'b, ()> + Encode<()> + PartialEq + Debug,
{
    let message: T = frame::decode(body).ok()?;
    let encoded = frame::encode(&message).unwrap();
    assert!(bodies(&encoded).eq([&encoded[HEADER_BYTES..]]), "the header is not the length");
    assert_eq!(frame::decode::<T>(&encoded[HEADER_BYTES..]).as_ref(), Ok(&message));
    Some(message)
}

fn json_again<T: Serialize + DeserializeOwned>(data: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<T>(data) else { return false };
    let once = serde_json::to_vec(&body).unwrap();
    let again = serde_json::to_vec(&serde_json::from_slice::<T>(&once).unwrap()).unwrap();
    assert_eq!(once, again);
    true
}

fn assert_bounded(update: &MapUpdate) {
    let (MapUpdate::Snapshot { peers, .. } | MapUpdate::Delta { upserted: peers, .. }) = update;
    assert!(peers.iter().all(|peer| peer.endpoints.len() <= MAX_ENDPOINTS));
}

fn assert_printable(texts: &[&str]) {
    for text in texts {
        assert!(text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control), "{text:?}");
    }
}
