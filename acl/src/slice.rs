//! What one node is given of a policy: the signed header, every never rule, the allow rules that can concern it,
//! and the proof that these belong to the generation.
//!
//! Of other rules a node learns their number, and where its own stand among them and in their files, and nothing
//! else. A slice that leaves out an allow rule permits less, which whoever delivers it can always bring about; one
//! that adds or changes a rule, or leaves out a never rule, is refused.

use bulkhead_identity::Signed;
use minicbor::{Encoder, bytes::ByteArray};

use crate::{
    Classes, PolicyError, Rule, RuleSet, Subject,
    bundle::{Header, malformed},
    class::Side,
    merkle::{self, Hash, Salt, Salts, Tree},
    source::MAX_RULES,
    wire::{array_of, exactly, in_order, list, rules},
};

/// Longest slice, below the limit of a protocol frame. A complete bundle within [`crate::bundle::MAX_BUNDLE_BYTES`]
/// makes none that is longer: to its rules a slice adds at most 24 bytes each and 34 for every second one.
pub const MAX_SLICE_BYTES: usize = 15 * 1024 * 1024;

/// The places of the allow rules that can ever concern `subject`, at either end of a flow and whoever is at the
/// other.
pub(crate) fn places(classes: &Classes, subject: &Subject) -> Vec<usize> {
    let class = classes.of(subject);
    let mut places: Vec<_> = class.met(Side::AllowFrom).chain(class.met(Side::AllowTo)).collect();
    places.sort_unstable();
    places.dedup();
    // `same` needs the label at both ends.
    let carries = |key: &String| subject.labels.get(key).is_some();
    places.retain(|&place| classes.rules().allow[place].related.iter().all(carries));
    places
}

/// Hash of an allow rule as leaf of its generation's tree.
pub(crate) fn leaf(salt: &Salt, rule: &Rule) -> Hash {
    merkle::leaf(salt, &minicbor::to_vec(rule).expect("writing to a Vec does not fail"))
}

/// Hash of the whole list of never rules.
pub(crate) fn hash_of_never(never: &[Rule]) -> Hash {
    merkle::hash(&minicbor::to_vec(never).expect("writing to a Vec does not fail"))
}

/// The slice that shows the allow rules of these places, ascending.
pub(crate) fn cut(signed: &Signed, rules: &RuleSet, salts: &Salts, tree: &Tree, places: &[usize]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    let mut write = || {
        e.array(4)?.bytes(&signed.encode())?.encode(&rules.never)?;
        e.array(places.len() as u64)?;
        for &place in places {
            e.array(3)?.u64(place as u64)?.bytes(&salts.of(place))?.encode(&rules.allow[place])?;
        }
        let proof = tree.prove(places);
        e.array(proof.len() as u64)?;
        proof.iter().try_for_each(|hash| e.bytes(hash).map(drop))
    };
    let written: Result<(), minicbor::encode::Error<_>> = write();
    written.expect("writing to a Vec does not fail");
    e.into_writer()
}

/// A slice as it was read. Nothing in it is believed before [`Slice::rules_under`].
pub(crate) struct Slice {
    pub(crate) signed: Signed,
    never: Vec<Rule>,
    allow: Vec<Disclosed>,
    proof: Vec<Hash>,
}

/// One allow rule with what places it in the tree.
struct Disclosed {
    /// Its number among all allow rules.
    place: usize,
    salt: Salt,
    rule: Rule,
}

impl Slice {
    /// Reads what [`cut`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_SLICE_BYTES {
            return Err(PolicyError(format!("longer than {MAX_SLICE_BYTES} bytes (MAX_SLICE_BYTES)")));
        }
        let (signed, never, allow, proof) = exactly(bytes, |d| {
            array_of(d, 4)?;
            let signed = d.bytes()?.to_vec();
            let never = rules(d, &mut ())?;
            let allow = list(d, MAX_RULES, "more rules than MAX_RULES", |d| {
                array_of(d, 3)?;
                let place = d.u32()? as usize;
                Ok(Disclosed { place, salt: *d.decode::<ByteArray<16>>()?, rule: d.decode()? })
            })?;
            let proof =
                list(d, MAX_RULES, "more hashes than MAX_RULES", |d| Ok(*d.decode::<ByteArray<32>>()?))?;
            Ok((signed, never, allow, proof))
        })
        .map_err(malformed)?;
        let signed = Signed::decode(&signed).map_err(|error| PolicyError(error.to_string()))?;
        Ok(Self { signed, never, allow, proof })
    }

    /// Its rules, if all of them belong to the generation of `header` and no never rule is missing.
    pub(crate) fn rules_under(self, header: &Header) -> Result<RuleSet, PolicyError> {
        let refused = |why: &str| Err(PolicyError(why.to_owned()));
        // What is hashed is what will be enforced, written anew, not the bytes that came.
        if hash_of_never(&self.never) != header.never {
            return refused("its never rules are not all of those that were signed, as they were signed");
        }
        if !self.allow.is_sorted_by(|a, b| a.place < b.place) {
            return refused("its allow rules are not in order");
        }
        let leaves: Vec<_> = self.allow.iter().map(|one| (one.place, leaf(&one.salt, &one.rule))).collect();
        if merkle::root_of(header.allow_rules, &leaves, &self.proof) != Some(header.allow) {
            return refused("its allow rules are not proved to be among those that were signed");
        }
        let allow = self.allow.into_iter().map(|one| one.rule).collect();
        in_order(RuleSet { allow, never: self.never }).map_err(malformed)
    }
}
