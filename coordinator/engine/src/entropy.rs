//! Randomness as an argument. One draw of 32 bytes by the rim makes every secret, id and serial number of one
//! command, each under its own name, so that none tells anything about another.

use bulkhead_identity::NodeName;
use bulkhead_identity::certificate::Serial;
use data_encoding::HEXLOWER;
use ring::hmac;
use zeroize::Zeroizing;

/// 32 bytes from the operating system's generator, for one command.
pub struct Entropy(Zeroizing<[u8; 32]>);

impl Entropy {
    /// Takes a fresh draw; never pass the same bytes twice.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// 32 bytes for one purpose: HMAC-SHA256 of its name under the draw.
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref());
        let tag = hmac::sign(&key, purpose.as_bytes());
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// A public id of `bytes` bytes, in hex.
    pub(crate) fn id(&self, purpose: &str, bytes: usize) -> String {
        HEXLOWER.encode(&self.derive(purpose)[..bytes])
    }

    /// [`Self::serial`], for one of several nodes.
    pub(crate) fn serial_of(&self, name: &NodeName) -> Serial {
        Self(self.derive(&format!("node {name}"))).serial()
    }

    /// A certificate's serial number: 127 random bits, top bit clear (RFC 5280, section 4.1.2.2), never zero.
    pub(crate) fn serial(&self) -> Serial {
        let mut serial = [0; 16];
        serial.copy_from_slice(&self.derive("serial")[..16]);
        serial[0] = (serial[0] & 0x7f) | 0x40;
        Serial(serial)
    }
}
