//! The one way in which signed bytes are written and read: minicbor, exact, canonical.
//!
//! What is read must be, byte for byte, what we would have written: no trailing bytes, no second encoding
//! of one value, and no field this version does not know, for such a field may narrow what we would permit.

use minicbor::{Decode, Encode};

/// Encodes `value` into a fresh vector.
pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to a vector does not fail and no encoder of ours refuses a value")
}

/// Decodes exactly one value, in the only encoding that [`encode`] gives it.
pub(crate) fn decode<'b, T: Decode<'b, ()> + Encode<()>>(bytes: &'b [u8]) -> Result<T, String> {
    let value: T = minicbor::decode(bytes).map_err(|error| error.to_string())?;
    if encode(&value) == bytes { Ok(value) } else { Err("encoding is not canonical".to_owned()) }
}

/// `Debug`, `minicbor` and `serde` for a newtype over fixed public bytes: lower-case hexadecimal for people, a
/// byte string in CBOR.
///
/// `$parse` is the type's own constructor from a byte slice, so that no road goes round its checks.
macro_rules! fixed_bytes {
    ($type:ident, $parse:expr) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($type), data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl<C> minicbor::Encode<C> for $type {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $type {
            fn decode(
                decoder: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                $parse(decoder.bytes()?).map_err(minicbor::decode::Error::message)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                let bytes =
                    data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
                $parse(&bytes).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use fixed_bytes;

/// `with` module for lists of byte strings.
pub(crate) mod byte_strings {
    use minicbor::bytes::ByteVec;
    use minicbor::decode::Decoder;
    use minicbor::encode::{Encoder, Write};

    pub(crate) fn encode<C, W: Write>(
        items: &[impl AsRef<[u8]>],
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.array(items.len() as u64)?;
        for item in items {
            encoder.bytes(item.as_ref())?;
        }
        Ok(())
    }

    pub(crate) fn decode<'b, C>(
        decoder: &mut Decoder<'b>,
        context: &mut C,
    ) -> Result<Vec<Vec<u8>>, minicbor::decode::Error> {
        let items = decoder.array_iter_with::<C, ByteVec>(context)?;
        items.map(|item| item.map(Vec::from)).collect()
    }
}
