//! The Merkle tree over the allow rules of a generation: the hashes of RFC 6962, section 2.1, over salted leaves.
//!
//! The root stands for every rule in its place, and one proof shows that some rules stand under it. Of the others
//! it shows hashes only, and each rule is hashed with a secret salt, so that nobody can try guesses against them.

use ring::{digest, hmac};

/// SHA-256.
pub(crate) type Hash = [u8; 32];

/// What makes a leaf's hash impossible to guess.
pub(crate) type Salt = [u8; 16];

// RFC 6962, section 2.1: a leaf can never be taken for a node.
const LEAF: u8 = 0;
const NODE: u8 = 1;

/// Hash of these bytes.
pub(crate) fn hash(bytes: &[u8]) -> Hash {
    hash_of(&[bytes])
}

/// Hash of the leaf that holds these bytes.
pub(crate) fn leaf(salt: &Salt, bytes: &[u8]) -> Hash {
    hash_of(&[&[LEAF], salt, bytes])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash_of(&[&[NODE], left, right])
}

fn hash_of(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Where the salts of one tree come from. Who has it can try guesses against every leaf.
pub(crate) struct Salts(hmac::Key);

impl Salts {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, seed))
    }

    /// The salt of leaf number `place`: the first half of HMAC-SHA256 of the number.
    pub(crate) fn of(&self, place: usize) -> Salt {
        let tag = hmac::sign(&self.0, &(place as u64).to_be_bytes());
        let mut salt = Salt::default();
        salt.copy_from_slice(&tag.as_ref()[..size_of::<Salt>()]);
        salt
    }
}

/// All nodes of a tree, so that many proofs cost no hashing.
#[derive(Clone)]
pub(crate) struct Tree {
    /// Leaves first. A last node without a partner is itself its own parent, which splits every subtree at the
    /// largest power of two below its size, as the RFC does. The last level is the root alone.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    pub(crate) fn new(leaves: Vec<Hash>) -> Self {
        // The root of no leaves is the hash of nothing.
        let mut level = if leaves.is_empty() { vec![hash(&[])] } else { leaves };
        let mut levels = Vec::new();
        while level.len() > 1 {
            let parents = level.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                alone => alone[0],
            });
            let parents = parents.collect();
            levels.push(std::mem::replace(&mut level, parents));
        }
        levels.push(level);
        Self { levels }
    }

    pub(crate) fn root(&self) -> Hash {
        self.levels[self.levels.len() - 1][0]
    }

    /// The hashes that, with the leaves of these places (ascending), make the root: those of the largest subtrees
    /// without any of them, from left to right.
    pub(crate) fn prove(&self, places: &[usize]) -> Vec<Hash> {
        let mut proof = Vec::new();
        self.prove_below(Position { level: self.levels.len() - 1, number: 0 }, places, &mut proof);
        proof
    }

    fn prove_below(&self, at: Position, places: &[usize], proof: &mut Vec<Hash>) {
        if places.is_empty() {
            proof.push(self.levels[at.level][at.number]);
        } else if let Some((left, right)) = at.children() {
            let (before, after) = places.split_at(places.partition_point(|&place| place < right.begin()));
            self.prove_below(left, before, proof);
            if right.number < self.levels[right.level].len() {
                self.prove_below(right, after, proof);
            }
        }
    }
}

/// The root of the tree of `count` leaves that has `leaves` (ascending by place) and the hashes of `proof`. `None`
/// unless the proof has exactly the hashes that are missing.
pub(crate) fn root_of(count: usize, leaves: &[(usize, Hash)], proof: &[Hash]) -> Option<Hash> {
    if leaves.last().is_some_and(|(place, _)| *place >= count) {
        return None;
    }
    let level = count.next_power_of_two().trailing_zeros() as usize;
    let mut missing = proof.iter();
    let root = root_below(count, Position { level, number: 0 }, leaves, &mut missing)?;
    missing.next().is_none().then_some(root)
}

fn root_below(
    count: usize,
    at: Position,
    leaves: &[(usize, Hash)],
    missing: &mut std::slice::Iter<'_, Hash>,
) -> Option<Hash> {
    if leaves.is_empty() {
        return missing.next().copied();
    }
    let Some((left, right)) = at.children() else {
        return if let [(_, leaf)] = leaves { Some(*leaf) } else { None };
    };
    let (before, after) = leaves.split_at(leaves.partition_point(|(place, _)| *place < right.begin()));
    let left = root_below(count, left, before, missing)?;
    if right.begin() >= count {
        return Some(left);
    }
    Some(node(&left, &root_below(count, right, after, missing)?))
}

/// A node of a tree: from the leaves up, and from left to right.
#[derive(Clone, Copy)]
struct Position {
    level: usize,
    number: usize,
}

impl Position {
    fn children(self) -> Option<(Self, Self)> {
        let level = self.level.checked_sub(1)?;
        Some((Self { level, number: 2 * self.number }, Self { level, number: 2 * self.number + 1 }))
    }

    /// The place of its first leaf.
    fn begin(self) -> usize {
        self.number << self.level
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        let salts = Salts::new(&[7; 32]);
        (0..count).map(|place| leaf(&salts.of(place), &place.to_be_bytes())).collect()
    }

    /// RFC 6962, section 2.1, word for word.
    fn rfc_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => hash(&[]),
            [leaf] => *leaf,
            several => {
                let middle = several.len().next_power_of_two() / 2;
                node(&rfc_root(&several[..middle]), &rfc_root(&several[middle..]))
            }
        }
    }

    fn disclosed(leaves: &[Hash], places: &[usize]) -> Vec<(usize, Hash)> {
        places.iter().map(|&place| (place, leaves[place])).collect()
    }

    #[test]
    fn the_root_is_that_of_rfc_6962() {
        for count in 0..70 {
            let leaves = leaves(count);
            assert_eq!(Tree::new(leaves.clone()).root(), rfc_root(&leaves), "{count} leaves");
        }
        // Test vectors of certificate-transparency's merkletree: no leaf, and one empty leaf (without salt).
        let hex = |hash: Hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(hex(Tree::new(Vec::new()).root()).starts_with("e3b0c44298fc1c14"));
        assert!(hex(hash(&[LEAF])).starts_with("6e340b9cffb37a98"));
    }

    #[test]
    fn one_leaf_of_many_is_proved_by_one_hash_for_each_level() {
        let tree = Tree::new(leaves(1024));
        assert_eq!(tree.prove(&[517]).len(), 10);
        assert_eq!(tree.prove(&[]), [tree.root()]);
        assert!(tree.prove(&(0..1024).collect::<Vec<_>>()).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_proved_is_the_root_and_nothing_else_is(
            count in 0usize..200,
            picks in proptest::collection::btree_set(0usize..200, 0..20),
            harm in any::<prop::sample::Index>(),
        ) {
            let leaves = leaves(count);
            let tree = Tree::new(leaves.clone());
            let places: Vec<_> = picks.into_iter().filter(|&place| place < count).collect();
            let (shown, proof) = (disclosed(&leaves, &places), tree.prove(&places));
            prop_assert_eq!(root_of(count, &shown, &proof), Some(tree.root()));

            let mut longer = proof.clone();
            longer.push(Hash::default());
            prop_assert_eq!(root_of(count, &shown, &longer), None);
            if let Some((_, shorter)) = proof.split_last() {
                prop_assert_eq!(root_of(count, &shown, shorter), None);
                let mut changed = proof.clone();
                changed[harm.index(proof.len())][0] ^= 1;
                prop_assert_ne!(root_of(count, &shown, &changed), Some(tree.root()));
            }
            if !shown.is_empty() {
                let at = harm.index(shown.len());
                let mut changed = shown.clone();
                changed[at].1[31] ^= 1;
                prop_assert_ne!(root_of(count, &changed, &proof), Some(tree.root()));
                let mut moved = shown.clone();
                moved[at].0 = (moved[at].0 + 1) % count;
                moved.sort_unstable();
                prop_assert!(moved == shown || root_of(count, &moved, &proof) != Some(tree.root()));
                let fewer: Vec<_> = shown.iter().copied().filter(|leaf| *leaf != shown[at]).collect();
                prop_assert_ne!(root_of(count, &fewer, &proof), Some(tree.root()));
            }
        }
    }
}
