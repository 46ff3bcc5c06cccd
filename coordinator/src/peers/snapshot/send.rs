//! One part of a snapshot as a stream.

use std::io;

use baton_proto::peer::{SnapshotEnd, SnapshotResponse, snapshot_response::Item};
use tokio::{io::AsyncReadExt as _, sync::mpsc};
use tonic::Status;

use super::outgoing::Part;
use crate::errors;

/// Bytes of one message.
const PIECE: usize = 256 * 1024;

/// Sends a part from `offset` on, until all of it is sent or nobody receives.
pub(in crate::peers) async fn send(
    part: Part,
    offset: u64,
    receiver: mpsc::Sender<Result<SnapshotResponse, Status>>,
) {
    let sent = tokio::select! {
        sent = send_all(part, offset, &receiver) => sent,
        () = receiver.closed() => return,
    };
    if let Err(error) = sent {
        // Nobody may be left to tell.
        let _ = receiver.send(Err(errors::internal(error).into())).await;
    }
}

async fn send_all(
    mut part: Part,
    offset: u64,
    receiver: &mpsc::Sender<Result<SnapshotResponse, Status>>,
) -> io::Result<()> {
    let send = async |item| {
        let sent = receiver.send(Ok(SnapshotResponse { item: Some(item) })).await;
        sent.map_err(io::Error::other)
    };
    // What the receiver has already counts for the checksum.
    let mut hasher = blake3::Hasher::new();
    let mut skip = offset;
    let mut length = 0;
    let mut piece = vec![0; PIECE];
    loop {
        let read = part.file.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        let bytes = &piece[..read];
        hasher.update(bytes);
        length += read as u64;
        let known = usize::try_from(skip).map_or(read, |skip| skip.min(read));
        skip -= known as u64;
        if known < read {
            send(Item::Data(bytes[known..].to_vec().into())).await?;
        }
    }
    let blake3 = hasher.finalize().as_bytes().to_vec().into();
    send(Item::End(SnapshotEnd { length, blake3 })).await
}
