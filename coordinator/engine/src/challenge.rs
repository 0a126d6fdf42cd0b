//! Challenges for proofs of possession: made from fresh randomness, answered once, within a window.

use crate::Entropy;
use crate::timing::CHALLENGE_WINDOW;
use bulkhead_identity::{
    CertificateRequest, Challenge, ChallengeKey, IdentityPublicKey, KeyBinding, Now, TunnelKey,
    TunnelPublicKey,
};
use std::time::Duration;

/// A challenge that waits for its answer. Consumed by it.
pub(crate) struct Open {
    challenge: Challenge,
    secret: TunnelKey,
    made: Duration,
}

impl Open {
    pub(crate) fn new(entropy: &Entropy, now: Now) -> Self {
        let challenge = Challenge(*entropy.derive("challenge"));
        let secret = TunnelKey::from_bytes(entropy.derive("challenge secret"));
        Self { challenge, secret, made: now.mono }
    }

    pub(crate) fn challenge(&self) -> Challenge {
        self.challenge
    }

    pub(crate) fn key(&self) -> ChallengeKey {
        ChallengeKey(*self.secret.public().as_bytes())
    }

    pub(crate) fn is_over(&self, now: Now) -> bool {
        now.mono.saturating_sub(self.made) > CHALLENGE_WINDOW
    }

    /// The keys whose possession the request proves, and the one's word for the other.
    pub(crate) fn answer(
        self,
        request: &CertificateRequest,
        now: Now,
    ) -> Result<(IdentityPublicKey, TunnelPublicKey, KeyBinding), &'static str> {
        if self.is_over(now) {
            return Err("the challenge is over: begin again");
        }
        let keys = request.verify(&self.challenge, &self.secret);
        let (identity, tunnel) = keys.map_err(|error| error.0)?;
        Ok((identity, tunnel, request.binding(&self.challenge, &self.key())))
    }
}
