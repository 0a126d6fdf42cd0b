//! Proof of possession of both keys. A request carries only keys; the coordinator composes the rest.
//!
//! Nobody gets a certificate for an identity key or a tunnel key that is not theirs: each proof covers the
//! fresh challenge and both keys, so none can be replayed, and none can be taken over into another request.

use crate::{IdentityKey, IdentityPublicKey, TunnelKey, TunnelPublicKey, signed::CONTEXT_REQUEST};
use ring::hmac;

/// Random challenge of one enrolment, 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Challenge(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

/// The coordinator's ephemeral X25519 public key for the tunnel-key proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct ChallengeKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

/// What a node sends to be certified (enrolment and renewal).
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct CertificateRequest {
    /// Ed25519 public key to certify.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub identity_key: [u8; 32],
    /// X25519 public key to certify.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub tunnel_key: [u8; 32],
    /// Ed25519 over challenge, challenge key and both keys, under [`CONTEXT_REQUEST`].
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signature: [u8; 64],
    /// HMAC-SHA256 of the same bytes; its key is X25519 of tunnel key and challenge key.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub tunnel_proof: [u8; 32],
}

/// The identity key's word for a tunnel key: what the node signed when it proved both. A coordinator can write any tunnel
/// key into a certificate; it cannot make the node say that the key is its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyBinding([u8; BINDING_BYTES]);

/// Challenge, challenge key, signature.
const BINDING_BYTES: usize = 32 + 32 + 64;

impl KeyBinding {
    /// Whether `identity` signed that `tunnel` is its own.
    #[must_use]
    pub fn binds(&self, identity: &IdentityPublicKey, tunnel: &TunnelPublicKey) -> bool {
        let (challenge, signature) = self.0.split_at(64);
        let statement = [challenge, identity.as_bytes(), tunnel.as_bytes()].concat();
        identity.verify(CONTEXT_REQUEST, &statement, signature)
    }

    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        bytes.try_into().map(Self).map_err(|_| "key binding is not 128 bytes")
    }
}

crate::cbor::fixed_bytes!(KeyBinding, KeyBinding::parse);

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("certificate request refused: {0}")]
pub struct RequestError(pub &'static str);

impl CertificateRequest {
    /// Proves possession of both keys to whoever made the challenge.
    pub fn create(
        identity: &IdentityKey,
        tunnel: &TunnelKey,
        challenge: &Challenge,
        challenge_key: &ChallengeKey,
    ) -> Self {
        let (identity_key, tunnel_key) = (*identity.public().as_bytes(), *tunnel.public().as_bytes());
        let statement = statement(challenge, challenge_key, &identity_key, &tunnel_key);
        let shared = tunnel.agree(&challenge_key.0);
        let mut tunnel_proof = [0; 32];
        tunnel_proof.copy_from_slice(hmac::sign(&mac_key(&*shared), &mac_input(&statement)).as_ref());
        Self { identity_key, tunnel_key, signature: identity.sign(CONTEXT_REQUEST, &statement), tunnel_proof }
    }

    /// The word for the tunnel key that it contains, to be kept: worth something once [`Self::verify`] has passed.
    pub fn binding(&self, challenge: &Challenge, challenge_key: &ChallengeKey) -> KeyBinding {
        let mut bytes = [0; BINDING_BYTES];
        bytes[..32].copy_from_slice(&challenge.0);
        bytes[32..64].copy_from_slice(&challenge_key.0);
        bytes[64..].copy_from_slice(&self.signature);
        KeyBinding(bytes)
    }

    /// Checks both proofs; the challenge secret is the coordinator's half of [`ChallengeKey`].
    ///
    /// # Errors
    /// When a key is malformed or of low order, or a proof is not for this challenge and these keys.
    pub fn verify(
        &self,
        challenge: &Challenge,
        challenge_secret: &TunnelKey,
    ) -> Result<(IdentityPublicKey, TunnelPublicKey), RequestError> {
        let identity = IdentityPublicKey::parse(&self.identity_key).map_err(|error| RequestError(error.0))?;
        let tunnel = TunnelPublicKey::parse(&self.tunnel_key).map_err(|error| RequestError(error.0))?;
        let challenge_key = ChallengeKey(*challenge_secret.public().as_bytes());
        let statement = statement(challenge, &challenge_key, &self.identity_key, &self.tunnel_key);
        if !identity.verify(CONTEXT_REQUEST, &statement, &self.signature) {
            return Err(RequestError("identity key did not sign this challenge"));
        }
        let shared = challenge_secret.agree(tunnel.as_bytes());
        hmac::verify(&mac_key(&*shared), &mac_input(&statement), &self.tunnel_proof)
            .map_err(|_| RequestError("tunnel key did not answer this challenge"))?;
        Ok((identity, tunnel))
    }
}

/// What both proofs are about; every part is of fixed length.
fn statement(
    challenge: &Challenge,
    challenge_key: &ChallengeKey,
    identity: &[u8; 32],
    tunnel: &[u8; 32],
) -> Vec<u8> {
    [&challenge.0, &challenge_key.0, identity, tunnel].map(|part| &part[..]).concat()
}

fn mac_input(statement: &[u8]) -> Vec<u8> {
    [CONTEXT_REQUEST.as_bytes(), &[0], statement].concat()
}

fn mac_key(shared: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, shared)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TunnelKey;
    use zeroize::Zeroizing;

    struct Scene {
        identity: IdentityKey,
        tunnel: TunnelKey,
        secret: TunnelKey,
        challenge: Challenge,
    }

    fn scene() -> Scene {
        Scene {
            identity: IdentityKey::from_seed(Zeroizing::new([1; 32])),
            tunnel: TunnelKey::from_bytes(Zeroizing::new([2; 32])),
            secret: TunnelKey::from_bytes(Zeroizing::new([3; 32])),
            challenge: Challenge([4; 32]),
        }
    }

    fn request(scene: &Scene) -> CertificateRequest {
        let key = ChallengeKey(*scene.secret.public().as_bytes());
        CertificateRequest::create(&scene.identity, &scene.tunnel, &scene.challenge, &key)
    }

    #[test]
    fn an_honest_request_yields_both_keys() {
        let scene = scene();
        let keys = request(&scene).verify(&scene.challenge, &scene.secret).unwrap();
        assert_eq!(keys, (scene.identity.public(), scene.tunnel.public()));
    }

    #[test]
    fn d13_another_nodes_tunnel_key_is_refused() {
        let scene = scene();
        let victim = request(&scene);
        // The attacker signs for itself, and has the victim's public tunnel key and an overheard proof.
        let attacker = IdentityKey::from_seed(Zeroizing::new([9; 32]));
        let key = ChallengeKey(*scene.secret.public().as_bytes());
        let own = TunnelKey::from_bytes(Zeroizing::new([8; 32]));
        let mut request = CertificateRequest::create(&attacker, &own, &scene.challenge, &key);
        request.tunnel_key = victim.tunnel_key;
        let statement = statement(&scene.challenge, &key, attacker.public().as_bytes(), &victim.tunnel_key);
        request.signature = attacker.sign(CONTEXT_REQUEST, &statement);
        for proof in [request.tunnel_proof, victim.tunnel_proof] {
            request.tunnel_proof = proof;
            let refused = request.verify(&scene.challenge, &scene.secret).unwrap_err();
            assert_eq!(refused, RequestError("tunnel key did not answer this challenge"));
        }
    }

    #[test]
    fn a_request_answers_one_challenge_only() {
        let scene = scene();
        let request = request(&scene);
        assert!(request.verify(&Challenge([5; 32]), &scene.secret).is_err());
        let other = TunnelKey::from_bytes(Zeroizing::new([6; 32]));
        assert!(request.verify(&scene.challenge, &other).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_request_is_refused() {
        let scene = scene();
        let request = request(&scene);
        let check = |change: &dyn Fn(&mut CertificateRequest)| {
            let mut changed = request.clone();
            change(&mut changed);
            assert!(changed.verify(&scene.challenge, &scene.secret).is_err());
        };
        for bit in 0..256 {
            let (byte, mask) = (bit / 8, 1 << (bit % 8));
            check(&|r| r.identity_key[byte] ^= mask);
            check(&|r| r.tunnel_key[byte] ^= mask);
            check(&|r| r.tunnel_proof[byte] ^= mask);
            check(&|r| r.signature[byte] ^= mask);
            check(&|r| r.signature[byte + 32] ^= mask);
        }
    }
}
