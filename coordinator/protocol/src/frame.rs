//! Framing of the control stream: `u32` big-endian length, then one minicbor message. A length beyond
//! [`MAX_FRAME_BYTES`] is refused before a byte of the body is read, and a body must be used up to its end.

use minicbor::{Decode, Decoder, Encode};

/// Largest frame body that either side sends or accepts.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;
/// Length of the header.
pub const HEADER_BYTES: usize = 4;

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than either side may send.
    #[error("frame of {0} bytes exceeds the limit of {MAX_FRAME_BYTES} (MAX_FRAME_BYTES)")]
    TooLong(usize),
    /// The body is no message, or more than one.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// Encodes a message with its header.
///
/// # Errors
/// When the body exceeds [`MAX_FRAME_BYTES`].
pub fn encode<T: Encode<()>>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    minicbor::encode(message, &mut frame).map_err(|error| FrameError::Malformed(error.to_string()))?;
    let body = frame.len() - HEADER_BYTES;
    let length = u32::try_from(body).ok().filter(|_| body <= MAX_FRAME_BYTES);
    let length = length.ok_or(FrameError::TooLong(body))?;
    frame[..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// The length of the body that this header announces.
///
/// # Errors
/// When it exceeds [`MAX_FRAME_BYTES`].
pub fn length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let announced = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if announced > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(announced));
    }
    Ok(announced)
}

/// Decodes a body, without header.
///
/// # Errors
/// When it is too long, no such message, or followed by anything.
pub fn decode<'b, T: Decode<'b, ()>>(body: &'b [u8]) -> Result<T, FrameError> {
    if body.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(body.len()));
    }
    let mut decoder = Decoder::new(body);
    let message = decoder.decode().map_err(|error| FrameError::Malformed(error.to_string()))?;
    if decoder.position() != body.len() {
        return Err(FrameError::Malformed("bytes after the message".to_owned()));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::{ToCoordinator, ToNode};
    use proptest::prelude::*;

    #[test]
    fn a_frame_decodes_to_what_was_encoded() {
        let frame = encode(&ToCoordinator::WantSnapshot).unwrap();
        let (header, body) = frame.split_at(HEADER_BYTES);
        assert_eq!(length(header.try_into().unwrap()).unwrap(), body.len());
        assert_eq!(decode::<ToCoordinator>(body).unwrap(), ToCoordinator::WantSnapshot);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_the_body() {
        assert_eq!(length([0xff; 4]), Err(FrameError::TooLong(u32::MAX as usize)));
        let over = u32::try_from(MAX_FRAME_BYTES + 1).unwrap();
        assert!(length(over.to_be_bytes()).is_err());
        assert!(length((over - 1).to_be_bytes()).is_ok());
    }

    #[test]
    fn a_message_beyond_the_limit_is_not_sent() {
        let bundle = vec![0; MAX_FRAME_BYTES];
        assert!(matches!(encode(&ToNode::Policy { slice: bundle }), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn bytes_after_the_message_are_refused() {
        let mut body = encode(&ToCoordinator::RenewBegin).unwrap().split_off(HEADER_BYTES);
        body.push(0xf6);
        assert!(matches!(decode::<ToCoordinator>(&body), Err(FrameError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(body in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<ToCoordinator>(&body);
            let _ = decode::<ToNode>(&body);
        }
    }
}
