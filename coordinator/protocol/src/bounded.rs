//! Decoding with limits. A length that the sender claims never reserves memory: elements are pushed one by
//! one, and the first beyond the limit ends the decoding.

use crate::control::{Endpoint, MAX_ENDPOINTS, MAX_TEXT_BYTES};
use crate::flow::{FlowReport, MAX_REPORTED_FLOWS};
use crate::map::{MAX_MAP_PEERS, MapPeer};
use bulkhead_identity::{Issuers, NodeName};
use minicbor::decode::Error;
use minicbor::{Decode, Decoder};

fn list<'b, C, T: Decode<'b, C>>(d: &mut Decoder<'b>, c: &mut C, max: usize) -> Result<Vec<T>, Error> {
    list_with(d, c, max, |item| item)
}

/// `keep` makes of an item what is kept of it.
fn list_with<'b, C, T: Decode<'b, C>>(
    d: &mut Decoder<'b>,
    c: &mut C,
    max: usize,
    mut keep: impl FnMut(T) -> T,
) -> Result<Vec<T>, Error> {
    let mut items = Vec::new();
    for item in d.array_iter_with(c)? {
        if items.len() == max {
            return Err(Error::message("list is longer than its limit"));
        }
        items.push(keep(item?));
    }
    Ok(items)
}

pub(crate) fn endpoints<'b, C>(d: &mut Decoder<'b>, c: &mut C) -> Result<Vec<Endpoint>, Error> {
    list(d, c, MAX_ENDPOINTS)
}

/// Issuers' certificates are kept once from the beginning.
pub(crate) fn peers<'b, C>(d: &mut Decoder<'b>, c: &mut C) -> Result<Vec<MapPeer>, Error> {
    let mut issuers = Issuers::default();
    list_with(d, c, MAX_MAP_PEERS, |peer: MapPeer| MapPeer { chain: issuers.share(peer.chain), ..peer })
}

pub(crate) fn names<'b, C>(d: &mut Decoder<'b>, c: &mut C) -> Result<Vec<NodeName>, Error> {
    list(d, c, MAX_MAP_PEERS)
}

pub(crate) fn flows<'b, C>(d: &mut Decoder<'b>, c: &mut C) -> Result<Vec<FlowReport>, Error> {
    list(d, c, MAX_REPORTED_FLOWS)
}

/// A line for people: bounded, and without control characters that could break a log or a terminal.
pub(crate) fn text<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<String, Error> {
    let text = d.str()?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::message("text is longer than MAX_TEXT_BYTES"));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::message("text holds control characters"));
    }
    Ok(text.to_owned())
}
