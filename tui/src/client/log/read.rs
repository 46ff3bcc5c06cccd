//! Reads a page of output.

use std::time::Duration;

use baton_client::{ClientError, Connection, Patience, retry};
use baton_proto::v1::{LogPiece, LogsRequest, logs_request::Start, logs_response::Item};

use super::{Asker, Gone, follow::counted};
use crate::{
    client::{link::Link, told},
    log::messages::{Answer, Source},
};

const PATIENCE: Patience = Patience(Duration::from_secs(30));

pub(super) async fn read(
    link: Link,
    source: Source,
    offset: u64,
    length: u64,
    asker: Asker,
) -> Result<(), Gone> {
    let page = retry(
        PATIENCE,
        |_| (),
        || async { page(&link.connection().await?, &source, offset, length).await },
    );
    let answer = match page.await {
        Ok((pieces, last)) => Answer::Page { offset, pieces, last },
        Err(error) => Answer::Failed(told(&error)),
    };
    asker.tell(answer).await
}

/// `length` bytes, and the notes among them; fewer where the output ends, and then true.
async fn page(
    connection: &Connection,
    source: &Source,
    offset: u64,
    length: u64,
) -> Result<(Vec<LogPiece>, bool), ClientError> {
    let request = LogsRequest {
        job_id: source.job_id.clone(),
        attempt: source.attempt,
        stream: source.stream.into(),
        start: Some(Start::Offset(offset)),
        follow: false,
    };
    let mut answers = connection.jobs().logs(request).await?.into_inner();
    let mut pieces = Vec::new();
    let mut left = length;
    while left > 0 {
        let Some(answer) = answers.message().await? else { return Ok((pieces, true)) };
        if let Some(Item::Piece(mut piece)) = answer.item {
            if counted(&piece) > left {
                piece.data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            }
            left -= counted(&piece);
            pieces.push(piece);
        }
    }
    Ok((pieces, false))
}
