//! A node's signed word about what it enforces. Only the node's identity key makes one, so a coordinator or
//! anyone on the way cannot claim an acknowledgement that was not given.

use crate::map::MapSequence;
use bulkhead_identity::signed::CONTEXT_RECEIPT;
use bulkhead_identity::{Epoch, Generation, IdentityKey, IdentityPublicKey, NodeName, Timestamp};
use minicbor::{Decode, Encode};

/// "I enforce this generation, this epoch and this map": signed by the identity key under
/// [`CONTEXT_RECEIPT`], over the minicbor array of fields 0 to 4.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// Who says so.
    #[n(0)]
    pub node: NodeName,
    /// Policy in force.
    #[n(1)]
    pub generation: Generation,
    /// Revocation list in force.
    #[n(2)]
    pub epoch: Epoch,
    /// The node's clock.
    #[n(3)]
    pub wall: Timestamp,
    /// Map in force.
    #[n(4)]
    pub map: MapSequence,
    /// 64 bytes of Ed25519.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub signature: Vec<u8>,
}

impl Receipt {
    /// Signs what this node enforces.
    #[must_use]
    pub fn sign(
        key: &IdentityKey,
        node: NodeName,
        generation: Generation,
        epoch: Epoch,
        wall: Timestamp,
        map: MapSequence,
    ) -> Self {
        let mut receipt = Self { node, generation, epoch, wall, map, signature: Vec::new() };
        receipt.signature = key.sign(CONTEXT_RECEIPT, &receipt.payload()).to_vec();
        receipt
    }

    /// Whether the holder of this key said so.
    #[must_use]
    pub fn verify(&self, key: &IdentityPublicKey) -> bool {
        key.verify(CONTEXT_RECEIPT, &self.payload(), &self.signature)
    }

    fn payload(&self) -> Vec<u8> {
        let fields = (&self.node, self.generation, self.epoch, self.wall, self.map);
        minicbor::to_vec(fields).expect("writing to a Vec cannot fail")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use zeroize::Zeroizing;

    fn receipt(key: &IdentityKey) -> Receipt {
        let node = NodeName::parse("web").unwrap();
        Receipt::sign(key, node, Generation(3), Epoch(7), Timestamp(1_800_000_000), MapSequence(9))
    }

    #[test]
    fn a_receipt_verifies_under_its_own_key_only() {
        let key = IdentityKey::from_seed(Zeroizing::new([1; 32]));
        let other = IdentityKey::from_seed(Zeroizing::new([2; 32]));
        let receipt = receipt(&key);
        assert!(receipt.verify(&key.public()));
        assert!(!receipt.verify(&other.public()));
    }

    #[test]
    fn every_field_is_signed() {
        let key = IdentityKey::from_seed(Zeroizing::new([1; 32]));
        let good = receipt(&key);
        let name = NodeName::parse("db").unwrap();
        let forged = [
            Receipt { node: name, ..good.clone() },
            Receipt { generation: Generation(4), ..good.clone() },
            Receipt { epoch: Epoch(8), ..good.clone() },
            Receipt { wall: Timestamp(1), ..good.clone() },
            Receipt { map: MapSequence(10), ..good.clone() },
            Receipt { signature: vec![0; 64], ..good.clone() },
            Receipt { signature: Vec::new(), ..good },
        ];
        for receipt in forged {
            assert!(!receipt.verify(&key.public()), "{receipt:?}");
        }
    }
}
