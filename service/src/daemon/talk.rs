//! A client's connection, as the daemon has it: every wait for the client has an end.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};
use vrift_client::Reply;
use vrift_client::codec::{self, CodecError};
use vrift_client::message::Hello;

/// A client that has begun to say something goes on within this time, and takes what is said to it.
const STALLED: Duration = Duration::from_secs(20);
/// Between two requests it may think for so long.
const QUIET: Duration = Duration::from_secs(600);

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The client went, as it may.
    Left,
    /// It stalled, or said what can't be understood.
    Away,
}

impl From<CodecError> for Gone {
    fn from(error: CodecError) -> Gone {
        match error {
            CodecError::Closed => Gone::Left,
            _ => Gone::Away,
        }
    }
}

/// A client's connection.
pub struct Talk {
    stream: UnixStream,
    /// The first byte of what it says next, if that has come.
    begun: Option<u8>,
}

impl Talk {
    pub fn new(stream: UnixStream) -> Talk {
        Talk { stream, begun: None }
    }

    /// The client's first message; ours goes to it whatever it says.
    pub async fn greet(&mut self) -> Result<Hello, Gone> {
        let said: Hello = self.receive().await?;
        self.send(codec::encode(&Hello::ours())?).await?;
        Ok(said)
    }

    /// Waits until it begins to say something. May be given up, and nothing is lost.
    pub async fn begins(&mut self) -> Result<(), Gone> {
        if self.begun.is_some() {
            return Ok(());
        }
        // A byte is read, for a socket may well be said to be readable when it isn't.
        let mut first = [0];
        match timeout(QUIET, self.stream.read(&mut first)).await {
            Ok(Ok(1)) => {
                self.begun = Some(first[0]);
                Ok(())
            }
            Ok(Ok(_)) => Err(Gone::Left),
            Ok(Err(_)) | Err(_) => Err(Gone::Away),
        }
    }

    /// What it says.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Gone> {
        let begun = self.begun.take();
        let mut all = begun.as_slice().chain(&mut self.stream);
        let frame = timeout(STALLED, receive_frame(&mut all)).await;
        Ok(codec::decode(&frame.map_err(|_| Gone::Away)??)?)
    }

    /// The next part of a content that has to be there by `end`.
    pub async fn part(&mut self, end: Instant) -> Result<Vec<u8>, Gone> {
        let end = end.min(Instant::now() + STALLED);
        let frame = timeout_at(end, receive_frame(&mut self.stream)).await;
        // Within a content nobody leaves.
        frame.map_err(|_| Gone::Away)?.map_err(|_| Gone::Away)
    }

    /// Says something.
    pub async fn say(&mut self, reply: &Reply) -> Result<(), Gone> {
        self.send(codec::encode(reply)?).await
    }

    async fn send(&mut self, frame: Vec<u8>) -> Result<(), Gone> {
        let sent = timeout(STALLED, self.stream.write_all(&frame)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone::Left),
            Err(_) => Err(Gone::Away),
        }
    }
}

/// As [`codec::read_frame`], for a task.
async fn receive_frame(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, CodecError> {
    let mut head = [0; codec::HEADER];
    from.read_exact(&mut head[..1]).await.map_err(codec::ended)?;
    from.read_exact(&mut head[1..]).await?;
    let mut frame = vec![0; codec::length(head)?];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}
