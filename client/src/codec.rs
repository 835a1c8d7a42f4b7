//! Frames: four bytes of length, the lowest first, and as many bytes. A message is a frame that holds
//! JSON, a content comes as frames that hold its bytes, one after the other.
//!
//! What must never happen here: memory is set aside for a length that somebody merely claims.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// No frame is longer, in bytes.
pub const LONGEST: usize = 128 << 10;
/// Bytes before it, which tell its length.
pub const HEADER: usize = 4;

/// Why a frame can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The other side has gone, between two frames.
    #[error("it closed the connection")]
    Closed,
    /// It failed, or ended within a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is longer than any.
    #[error("a message of {0} bytes, at most {LONGEST} are allowed")]
    Long(usize),
    /// It holds something else than what was expected.
    #[error("a message that isn't understood: {0}")]
    Junk(serde_json::Error),
}

/// A message as a frame.
///
/// # Errors
/// It is too long.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message).map_err(CodecError::Junk)?;
    let length = header(frame.len() - HEADER)?;
    frame[..HEADER].copy_from_slice(&length);
    Ok(frame)
}

/// What a frame says.
///
/// # Errors
/// It says something else.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, CodecError> {
    serde_json::from_slice(frame).map_err(CodecError::Junk)
}

fn header(length: usize) -> Result<[u8; HEADER], CodecError> {
    if length > LONGEST {
        return Err(CodecError::Long(length));
    }
    let length = u32::try_from(length).map_err(|_| CodecError::Long(length))?;
    Ok(length.to_le_bytes())
}

/// How long the frame after this header is.
///
/// # Errors
/// Longer than any may be.
pub fn length(header: [u8; HEADER]) -> Result<usize, CodecError> {
    let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if length > LONGEST { Err(CodecError::Long(length)) } else { Ok(length) }
}

/// The end of the stream where a frame could begin is no failure.
#[must_use]
pub fn ended(error: io::Error) -> CodecError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CodecError::Closed,
        _ => CodecError::Io(error),
    }
}

/// Writes bytes as one frame.
///
/// # Errors
/// They are too many, or can't be written.
pub fn write_frame(to: &mut impl Write, bytes: &[u8]) -> Result<(), CodecError> {
    to.write_all(&header(bytes.len())?)?;
    Ok(to.write_all(bytes)?)
}

/// Reads one frame.
///
/// # Errors
/// There is none, or it can't be read.
pub fn read_frame(from: &mut impl Read) -> Result<Vec<u8>, CodecError> {
    let mut head = [0; HEADER];
    from.read_exact(&mut head[..1]).map_err(ended)?;
    from.read_exact(&mut head[1..])?;
    let mut frame = vec![0; length(head)?];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut stream = encode(&("é", 7)).expect("short");
        write_frame(&mut stream, b"bytes").expect("short");
        write_frame(&mut stream, b"").expect("short");
        let mut from = stream.as_slice();
        let message = read_frame(&mut from).expect("a frame");
        assert_eq!(decode::<(String, u8)>(&message).expect("its message"), ("é".into(), 7));
        assert_eq!(read_frame(&mut from).expect("a frame"), b"bytes");
        assert_eq!(read_frame(&mut from).expect("a frame"), b"");
        assert!(matches!(read_frame(&mut from), Err(CodecError::Closed)));
    }

    #[test]
    fn what_is_too_long_or_cut_is_refused() {
        assert!(matches!(encode(&"x".repeat(LONGEST)), Err(CodecError::Long(_))));
        let claims = u32::MAX.to_le_bytes();
        assert!(matches!(read_frame(&mut claims.as_slice()), Err(CodecError::Long(_))));
        let whole = encode(&[1, 2, 3]).expect("short");
        for cut in 1..whole.len() {
            assert!(matches!(read_frame(&mut &whole[..cut]), Err(CodecError::Io(_))), "{cut}");
        }
        assert!(matches!(decode::<u8>(b"{}"), Err(CodecError::Junk(_))));
    }
}
