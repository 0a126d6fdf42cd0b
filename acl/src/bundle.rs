//! The signed policy bundle: rules, generation, validity.
//!
//! Policy keys sign a header that stands for every rule without containing one: the hash of all never rules and
//! the Merkle root of the allow rules. So a node can be given the rules that concern it (see [`crate::slice`]) and
//! still enforces nothing that these keys did not sign. The complete bundle stays with whoever hands out slices.

use std::fmt;
use std::sync::Arc;

use bulkhead_identity::{
    Generation, IdentityKey, IdentityPublicKey, Signed, Timestamp, Trust, TrustDomain, signed::CONTEXT_POLICY,
};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::{
    Rule, RuleSet, Subject,
    class::Classes,
    decide::moment,
    merkle::{Hash, Salts, Tree},
    slice,
    source::MAX_RULES,
    wire::{array_of, exactly},
};

/// Longest complete bundle.
pub const MAX_BUNDLE_BYTES: usize = 12 * 1024 * 1024;

/// Version of the compiled language. A reader refuses any other: skipping what it does not know could widen.
const LANGUAGE: u8 = 2;

/// What policy keys sign, in full.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The deployment whose policy it is.
    pub trust_domain: TrustDomain,
    /// From 1; only grows.
    pub generation: Generation,
    /// It permits nothing before.
    pub not_before: Timestamp,
    /// It permits nothing from here on.
    pub expires: Timestamp,
    /// Who may talk to whom.
    pub rules: RuleSet,
    /// Makes the salts that keep rules from nodes they do not concern: random, another for each bundle, and a secret
    /// of whoever holds the complete bundle.
    pub seed: [u8; 32],
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("trust_domain", &self.trust_domain)
            .field("generation", &self.generation)
            .field("not_before", &self.not_before)
            .field("expires", &self.expires)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Bundle {
    /// The complete signed bundle.
    ///
    /// `rules` must come from [`crate::check()`], which keeps them within the limits that readers enforce.
    pub fn sign(&self, keys: &[&IdentityKey]) -> Vec<u8> {
        let signed = Signed::sign(CONTEXT_POLICY, self.header(&self.tree()).encode(), keys);
        encode_complete(&signed, &self.rules, &self.seed)
    }

    /// Signed, as the slice that leaves nothing out: for whoever may see all.
    pub fn whole_slice(&self, keys: &[&IdentityKey]) -> Vec<u8> {
        let tree = self.tree();
        let signed = Signed::sign(CONTEXT_POLICY, self.header(&tree).encode(), keys);
        let all: Vec<_> = (0..self.rules.allow.len()).collect();
        slice::cut(&signed, &self.rules, &Salts::new(&self.seed), &tree, &all)
    }

    /// What a complete bundle says, whoever signed it: its header stands for exactly this.
    ///
    /// # Errors
    /// When the bytes are not a complete bundle, or header and rules contradict each other.
    pub fn read(bytes: &[u8]) -> Result<Self, PolicyError> {
        Complete::read(bytes).map(|complete| complete.bundle)
    }

    fn tree(&self) -> Tree {
        let salts = Salts::new(&self.seed);
        let leaf = |(place, rule): (usize, &Rule)| slice::leaf(&salts.of(place), rule);
        Tree::new(self.rules.allow.iter().enumerate().map(leaf).collect())
    }

    fn header(&self, tree: &Tree) -> Header {
        Header {
            trust_domain: self.trust_domain.clone(),
            generation: self.generation,
            not_before: self.not_before,
            expires: self.expires,
            never: slice::hash_of_never(&self.rules.never),
            allow: tree.root(),
            allow_rules: self.rules.allow.len(),
        }
    }
}

fn encode_complete(signed: &Signed, rules: &RuleSet, seed: &[u8; 32]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    let written = e
        .array(3)
        .and_then(|e| e.bytes(&signed.encode()))
        .and_then(|e| e.encode(rules))
        .and_then(|e| e.bytes(seed));
    written.expect("writing to a Vec does not fail");
    e.into_writer()
}

/// A complete bundle whose header stands for its rules. Nobody's signature was judged.
struct Complete {
    signed: Signed,
    header: Header,
    bundle: Bundle,
    tree: Tree,
}

impl Complete {
    fn read(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(PolicyError(format!("longer than {MAX_BUNDLE_BYTES} bytes (MAX_BUNDLE_BYTES)")));
        }
        let (signed, rules, seed) = exactly(bytes, |d| {
            array_of(d, 3)?;
            let signed = d.bytes()?.to_vec();
            let rules: RuleSet = d.decode()?;
            let seed: minicbor::bytes::ByteArray<32> = d.decode()?;
            Ok((signed, rules, seed))
        })
        .map_err(malformed)?;
        let signed = Signed::decode(&signed).map_err(|error| PolicyError(error.to_string()))?;
        let header = Header::decode_payload(&signed.payload)?;
        let bundle = Bundle {
            trust_domain: header.trust_domain.clone(),
            generation: header.generation,
            not_before: header.not_before,
            expires: header.expires,
            rules,
            seed: *seed,
        };
        let tree = bundle.tree();
        if bundle.header(&tree) != header {
            return Err(PolicyError("its rules are not the ones that its header stands for".to_owned()));
        }
        Ok(Self { signed, header, bundle, tree })
    }
}

/// A verified complete bundle: what slices are cut from.
#[derive(Clone)]
pub struct SignedBundle {
    signed: Signed,
    header: Header,
    classes: Arc<Classes>,
    seed: [u8; 32],
    tree: Tree,
}

impl fmt::Debug for SignedBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedBundle").field("header", &self.header).finish_non_exhaustive()
    }
}

impl SignedBundle {
    /// Verifies signatures, trust domain, validity at `wall`, that the generation is not below `floor`, and that the
    /// rules are all of those that were signed.
    ///
    /// # Errors
    /// When any of these does not hold, or the bytes are not a complete bundle.
    pub fn verify(
        bytes: &[u8],
        trust: &Trust,
        floor: Generation,
        wall: Timestamp,
    ) -> Result<Self, PolicyError> {
        let Complete { signed, header, bundle, tree } = Complete::read(bytes)?;
        Header::verify(&signed, trust, floor, wall)?;
        let classes = Arc::new(Classes::new(Arc::new(bundle.rules)));
        Ok(Self { signed, header, classes, seed: bundle.seed, tree })
    }

    /// Adds a signature to a complete bundle that nobody has verified yet: its policy keys sign one after the other,
    /// each on a machine of its own. Look at [`Bundle::read`] first: a signature stands for all it says.
    ///
    /// # Errors
    /// When the bytes are not a complete bundle.
    pub fn countersign(bytes: &[u8], key: &IdentityKey) -> Result<Vec<u8>, PolicyError> {
        let Complete { mut signed, bundle, .. } = Complete::read(bytes)?;
        let added = Signed::sign(CONTEXT_POLICY, signed.payload.clone(), &[key]);
        signed.signatures.retain(|signature| signature.key != *key.public().as_bytes());
        signed.signatures.extend(added.signatures);
        signed.signatures.sort_by_key(|signature| signature.key);
        Ok(encode_complete(&signed, &bundle.rules, &bundle.seed))
    }

    /// Whose signatures it bears, those that check. Whether these are policy keys is not judged.
    ///
    /// # Errors
    /// When the bytes are not a complete bundle.
    pub fn signers(bytes: &[u8]) -> Result<Vec<IdentityPublicKey>, PolicyError> {
        let signed = Complete::read(bytes)?.signed;
        let checks = signed.signatures.iter().filter_map(|signature| {
            let key = IdentityPublicKey::parse(&signature.key).ok()?;
            key.verify(CONTEXT_POLICY, &signed.payload, &signature.signature).then_some(key)
        });
        Ok(checks.collect())
    }

    /// Its generation.
    pub fn generation(&self) -> Generation {
        self.header.generation
    }

    /// It permits nothing before.
    pub fn not_before(&self) -> Timestamp {
        self.header.not_before
    }

    /// From when on it permits nothing.
    pub fn expires(&self) -> Timestamp {
        self.header.expires
    }

    /// All rules.
    pub fn rules(&self) -> &RuleSet {
        self.classes.rules()
    }

    /// The rules compiled for many questions.
    pub fn classes(&self) -> &Arc<Classes> {
        &self.classes
    }

    /// What `subject` is to be given: every never rule, and the allow rules that can concern it.
    #[must_use]
    pub fn slice(&self, subject: &Subject) -> Vec<u8> {
        let places = slice::places(&self.classes, subject);
        slice::cut(&self.signed, self.rules(), &Salts::new(&self.seed), &self.tree, &places)
    }
}

/// The signed words: what a slice is measured against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) generation: Generation,
    pub(crate) not_before: Timestamp,
    pub(crate) expires: Timestamp,
    /// Hash of the list of all never rules.
    pub(crate) never: Hash,
    /// Root over the allow rules, in the order of their ids.
    pub(crate) allow: Hash,
    /// How many allow rules there are.
    pub(crate) allow_rules: usize,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to a Vec does not fail")
    }

    fn decode_payload(payload: &[u8]) -> Result<Self, PolicyError> {
        exactly(payload, |d| d.decode()).map_err(malformed)
    }

    /// Verifies signatures, trust domain, validity at `wall` and that the generation is not below `floor`.
    pub(crate) fn verify(
        signed: &Signed,
        trust: &Trust,
        floor: Generation,
        wall: Timestamp,
    ) -> Result<Self, PolicyError> {
        let document = trust.document();
        let payload = signed
            .verify(CONTEXT_POLICY, &document.policy_keys, usize::from(document.policy_threshold))
            .map_err(|error| PolicyError(error.to_string()))?;
        let header = Self::decode_payload(payload)?;
        header.admit(&document.trust_domain, floor, wall)?;
        Ok(header)
    }

    fn admit(
        &self,
        trust_domain: &TrustDomain,
        floor: Generation,
        wall: Timestamp,
    ) -> Result<(), PolicyError> {
        let refused = |why: String| Err(PolicyError(why));
        let Self { generation, not_before, expires, .. } = self;
        if self.trust_domain != *trust_domain {
            return refused(format!("it is for trust domain {}, ours is {trust_domain}", self.trust_domain));
        }
        if *generation == Generation(0) {
            return refused("generation 0 is the absence of a policy".to_owned());
        }
        if *generation < floor {
            return refused(format!("generation {} is older than {}, already seen", generation.0, floor.0));
        }
        if wall < *not_before {
            return refused(format!("it is not valid before {}", moment(*not_before)));
        }
        if wall >= *expires {
            return refused(format!("it expired at {}", moment(*expires)));
        }
        Ok(())
    }
}

impl<C> Encode<C> for Header {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.array(8)?.u8(LANGUAGE)?.encode_with(&self.trust_domain, ctx)?;
        e.encode_with(self.generation, ctx)?;
        e.encode_with(self.not_before, ctx)?.encode_with(self.expires, ctx)?;
        e.bytes(&self.never)?.bytes(&self.allow)?.u64(self.allow_rules as u64)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Header {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        array_of(d, 8)?;
        if d.u8()? != LANGUAGE {
            return Err(decode::Error::message("written for another version of the policy language"));
        }
        Ok(Self {
            trust_domain: d.decode()?,
            generation: d.decode()?,
            not_before: d.decode()?,
            expires: d.decode()?,
            never: *d.decode::<minicbor::bytes::ByteArray<32>>()?,
            allow: *d.decode::<minicbor::bytes::ByteArray<32>>()?,
            allow_rules: usize::try_from(d.u64()?)
                .ok()
                .filter(|&count| count <= MAX_RULES)
                .ok_or_else(|| decode::Error::message("more rules than MAX_RULES"))?,
        })
    }
}

pub(crate) fn malformed(error: decode::Error) -> PolicyError {
    PolicyError(format!("malformed: {error}"))
}

/// Why a bundle or a slice was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy refused: {0}")]
pub struct PolicyError(pub String);
