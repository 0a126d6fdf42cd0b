//! Keys that sign tokens in tests, made anew each time.

use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde_json::{Value, json};

pub(super) enum Key {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

fn part(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// What is signed: header and claims.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    unsigned_text(&header.to_string(), &claims.to_string())
}

fn unsigned_text(header: &str, claims: &str) -> String {
    format!("{}.{}", part(header.as_bytes()), part(claims.as_bytes()))
}

impl Key {
    pub(super) fn ec() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self::Ec(Box::new(pair.unwrap()))
    }

    /// ring uses RSA keys but makes none.
    pub(super) fn rsa() -> Self {
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        Self::Rsa(Box::new(RsaKeyPair::from_der(key.to_pkcs1_der().unwrap().as_bytes()).unwrap()))
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    pub(super) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": part(x), "y": part(y) })
            }
            Self::Rsa(_) => {
                let (n, e) = self.rsa_public();
                json!({ "kty": "RSA", "use": "sig", "kid": id, "n": part(&n), "e": part(&e) })
            }
        }
    }

    /// Modulus and exponent, of an RSA key.
    pub(super) fn rsa_public(&self) -> (Vec<u8>, Vec<u8>) {
        let Self::Rsa(pair) = self else { panic!("an RSA key") };
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
        (public.n, public.e)
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// For what is no JSON, or JSON of a kind that `Value` cannot hold.
    pub(super) fn sign_text(&self, header: &str, claims: &str) -> String {
        let text = unsigned_text(header, claims);
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ec(pair) => pair.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{text}.{}", part(&signature))
    }

    /// A token as an honest provider makes it, with this key's id.
    pub(super) fn token(&self, id: &str, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.algorithm(), "typ": "JWT", "kid": id }), claims)
    }
}
