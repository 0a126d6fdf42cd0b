//! A8: keys that are weak, that two spellings could name, or that would show in a log.

use crate::deployment::{key, tunnel_key};
use bulkhead_identity::*;
use proptest::prelude::*;
use zeroize::Zeroizing;

fn hex(text: &str) -> [u8; 32] {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

/// All encodings of points of low order that X25519 implementations meet
/// (<https://cr.yp.to/ecdh.html#validate>): the five reduced ones, and their unreduced forms.
fn low_order() -> Vec<[u8; 32]> {
    let reduced = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ]
    .map(hex);
    let with_top_bit = reduced.map(|mut point| {
        point[31] |= 0x80;
        point
    });
    [reduced, with_top_bit].concat()
}

#[test]
fn a8_tunnel_keys_of_low_order_are_refused() {
    for point in low_order() {
        let shared = tunnel_key(7).secret().diffie_hellman(&x25519_dalek::PublicKey::from(point));
        assert!(!shared.was_contributory(), "the table holds points of low order");
        assert!(TunnelPublicKey::parse(&point).is_err());
    }
}

#[test]
fn a8_identity_keys_of_low_order_are_refused() {
    for point in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ] {
        assert!(IdentityPublicKey::parse(&hex(point)).is_err(), "{point}");
    }
}

#[test]
fn l15_a_second_spelling_of_a_key_is_refused() {
    let mut spelled = *tunnel_key(7).public().as_bytes();
    spelled[31] |= 0x80;
    assert!(TunnelPublicKey::parse(&spelled).is_err());
    // 2^255 - 19 + 9 is the base point's u = 9, unreduced.
    let unreduced = hex("f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    assert!(TunnelPublicKey::parse(&unreduced).is_err());
    // y = 2^255 - 19 + 3 names the point y = 3.
    let mut three = [0; 32];
    three[0] = 3;
    assert!(IdentityPublicKey::parse(&three).is_ok());
    let unreduced = hex("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    assert!(IdentityPublicKey::parse(&unreduced).is_err());
}

#[test]
fn keys_of_another_length_are_refused() {
    for length in [0, 31, 33, 64] {
        assert!(IdentityPublicKey::parse(&vec![3; length]).is_err());
        assert!(TunnelPublicKey::parse(&vec![3; length]).is_err());
    }
}

#[test]
fn a_private_key_reads_as_it_was_written_and_as_nothing_else() {
    let der = key(9).to_pkcs8();
    assert_eq!(IdentityKey::from_pkcs8(&der).unwrap().public(), key(9).public());
    for end in 0..der.len() {
        assert!(IdentityKey::from_pkcs8(&der[..end]).is_err());
    }
    assert!(IdentityKey::from_pkcs8(&[der.as_slice(), &[0]].concat()).is_err());
    let tunnel = tunnel_key(9);
    assert_eq!(TunnelKey::from_bytes(tunnel.to_bytes()).public(), tunnel.public());
}

#[test]
fn rfc_8032_test_vector_1_gives_its_public_key() {
    let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(IdentityKey::from_seed(Zeroizing::new(seed)).public().to_string(), public);
}

#[test]
fn a_fingerprint_shows_as_thirteen_groups_of_four() {
    let shown = key(9).public().fingerprint().to_string();
    let groups: Vec<&str> = shown.split('-').collect();
    assert_eq!(groups.len(), 13);
    assert!(groups.iter().all(|group| group.len() == 4));
    let hash = data_encoding::BASE32_NOPAD.decode(groups.concat().as_bytes()).unwrap();
    assert_eq!(hash, key(9).public().fingerprint().0);
}

proptest! {
    #[test]
    fn a_tunnel_key_is_accepted_exactly_if_it_is_reduced_and_contributes(bytes: [u8; 32]) {
        let point = x25519_dalek::PublicKey::from(bytes);
        let contributes = tunnel_key(7).secret().diffie_hellman(&point).was_contributory();
        let reduced = bytes[31] < 0x80;
        prop_assert_eq!(TunnelPublicKey::parse(&bytes).is_ok(), contributes && reduced);
    }

    #[test]
    fn a_signature_is_for_one_key_one_context_and_one_message(
        seed in 0..200_u8, message: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8,
    ) {
        let signature = key(seed).sign(signed::CONTEXT_POLICY, &message);
        let public = key(seed).public();
        prop_assert!(public.verify(signed::CONTEXT_POLICY, &message, &signature));
        prop_assert!(!public.verify(signed::CONTEXT_TRUST, &message, &signature));
        prop_assert!(!key(seed + 1).public().verify(signed::CONTEXT_POLICY, &message, &signature));
        let mut changed = signature;
        changed[at.index(64)] ^= 1 << bit;
        prop_assert!(!public.verify(signed::CONTEXT_POLICY, &message, &changed));
        let longer = [message.as_slice(), &[0]].concat();
        prop_assert!(!public.verify(signed::CONTEXT_POLICY, &longer, &signature));
    }

    #[test]
    fn public_keys_read_as_they_were_written(seed: u8) {
        let (identity, tunnel) = (key(seed).public(), tunnel_key(seed).public());
        let json = serde_json::to_string(&(identity, tunnel)).unwrap();
        prop_assert_eq!(serde_json::from_str::<(_, _)>(&json).unwrap(), (identity, tunnel));
        let bytes = minicbor::to_vec((identity, tunnel)).unwrap();
        prop_assert_eq!(minicbor::decode::<(_, _)>(&bytes).unwrap(), (identity, tunnel));
    }
}
