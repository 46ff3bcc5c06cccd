//! Searches in output on the server.

use std::sync::atomic::{AtomicU64, Ordering};

use baton_client::{ClientError, Connection, retry};
use baton_proto::v1::SearchLogRequest;

use super::{Asker, Gone};
use crate::{
    client::{FOR_EVER, link::Link, told},
    log::messages::{Answer, Source},
};

/// What is looked for, and where.
pub(super) struct Search {
    /// One of them is enough.
    pub(super) texts: Vec<String>,
    pub(super) offset: u64,
    pub(super) backwards: bool,
}

/// Tells the nearest line that has one of the texts. They are looked for one after the other, each
/// no further than to what was found of those before. It goes on until it is stopped.
pub(super) async fn search(
    link: Link,
    source: Source,
    search: Search,
    asker: Asker,
) -> Result<(), Gone> {
    let mut nearest = None;
    for text in &search.texts {
        // When the connection breaks it goes on from here.
        let at = AtomicU64::new(search.offset);
        let looked = retry(
            FOR_EVER,
            |_| (),
            || async {
                let connection = link.connection().await?;
                let request = SearchLogRequest {
                    job_id: source.job_id.clone(),
                    attempt: source.attempt,
                    stream: source.stream.into(),
                    text: text.clone(),
                    offset: at.load(Ordering::Relaxed),
                    backwards: search.backwards,
                    limit: 1,
                };
                look(&connection, request, nearest, &at, &asker).await
            },
        );
        match looked.await {
            Ok(found) => nearest = found.or(nearest),
            Err(error) => return asker.tell(Answer::Failed(told(&error))).await,
        }
    }
    asker.tell(nearest.map_or(Answer::NotFound, Answer::Found)).await
}

/// Looks for one text as far as `nearest`; where it is, if it is nearer.
async fn look(
    connection: &Connection,
    request: SearchLogRequest,
    nearest: Option<u64>,
    at: &AtomicU64,
    asker: &Asker,
) -> Result<Option<u64>, ClientError> {
    let backwards = request.backwards;
    let is_nearer = |offset: u64| match nearest {
        None => true,
        Some(nearest) if backwards => offset > nearest,
        Some(nearest) => offset < nearest,
    };
    let mut answers = connection.jobs().search_log(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.found || !is_nearer(answer.offset) {
            return Ok(Some(answer.offset).filter(|offset| answer.found && is_nearer(*offset)));
        }
        at.store(answer.offset, Ordering::Relaxed);
        asker.tell_now(Answer::Searched(answer.offset));
    }
    Ok(None)
}
