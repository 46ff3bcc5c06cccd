//! Follows output over broken connections. It is gathered for as long as a frame lasts; when there
//! is more than can be shown, its beginning is left out, and when the network is what falls
//! behind, what is on its way is left out too.

use std::{collections::VecDeque, time::Duration};

use baton_client::{
    ClientError, Connection, LogBegin, LogEvent, LogOptions, LogUntil, read_log, retry,
};
use baton_proto::v1::{LogPiece, LogStream, LogsRequest, logs_request::Start, logs_response::Item};
use futures::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Asker, Gone};
use crate::{
    client::{FOR_EVER, link::Link, told},
    log::messages::{Answer, Begin, Source},
};

/// Output is told no more often than it is drawn.
const FRAME: Duration = Duration::from_millis(33);
/// What is gathered at most, in bytes: many screens.
const MOST: usize = 1024 * 1024;
/// What a piece takes beside its bytes.
const PIECE: usize = 64;
/// How often it is looked whether much that came is old.
const LOOK: Duration = Duration::from_secs(1);
/// So many bytes behind the end is too far, and so few are fetched then.
const TOO_FAR: u64 = 4 * 1024 * 1024;
const TAIL: u64 = 64 * 1024;

/// What came and has not been told.
#[derive(Default)]
struct Gathered {
    /// Bytes before it.
    offset: u64,
    pieces: VecDeque<LogPiece>,
    size: usize,
    /// Bytes that came since it was looked whether they are old.
    came: u64,
}

impl Gathered {
    fn begin(&mut self, offset: u64) {
        *self = Self { offset, ..Self::default() };
    }

    fn add(&mut self, piece: LogPiece) {
        self.size += piece.data.len() + PIECE;
        self.came += counted(&piece);
        self.pieces.push_back(piece);
        while self.size > MOST && self.pieces.len() > 1 {
            let Some(left_out) = self.pieces.pop_front() else { break };
            self.size -= left_out.data.len() + PIECE;
            self.offset += counted(&left_out);
        }
    }

    /// Bytes up to its end.
    fn end(&self) -> u64 {
        self.offset + self.pieces.iter().map(counted).sum::<u64>()
    }

    fn take(&mut self) -> Option<Answer> {
        if self.pieces.is_empty() {
            return None;
        }
        let (offset, end) = (self.offset, self.end());
        self.offset = end;
        self.size = 0;
        let pieces = std::mem::take(&mut self.pieces).into();
        Some(Answer::Output { offset, pieces })
    }
}

pub(super) fn counted(piece: &LogPiece) -> u64 {
    if piece.stream() == LogStream::Note { 0 } else { piece.data.len() as u64 }
}

pub(super) async fn follow(
    link: Link,
    source: Source,
    begin: Begin,
    asker: Asker,
) -> Result<(), Gone> {
    let connection = match retry(FOR_EVER, |_| (), || link.connection()).await {
        Ok(connection) => connection,
        Err(error) => return asker.tell(Answer::Failed(told(&error))).await,
    };
    let mut follower = Follower { connection, source, asker, gathered: Gathered::default() };
    follower.follow(begin).await
}

struct Follower {
    connection: Connection,
    source: Source,
    asker: Asker,
    gathered: Gathered,
}

impl Follower {
    async fn follow(&mut self, begin: Begin) -> Result<(), Gone> {
        let mut events = self.events(begin);
        let mut has_begun = false;
        let mut next_told = Instant::now();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = sleep_until(next_told), if !self.gathered.pieces.is_empty() => {
                    if self.asker.has_room() {
                        self.tell_gathered().await?;
                    }
                    next_told = Instant::now() + FRAME;
                    continue;
                }
                _ = looks.tick(), if self.gathered.came > TOO_FAR / 4 => {
                    self.gathered.came = 0;
                    if self.is_too_far().await {
                        events = self.events(Begin::Tail(TAIL));
                    }
                    continue;
                }
            };
            let answer = match event {
                None => return Ok(()),
                Some(Ok(LogEvent::Attempt { offset, length, .. })) => {
                    self.tell_gathered().await?;
                    self.gathered.begin(offset);
                    if std::mem::replace(&mut has_begun, true) {
                        continue;
                    }
                    Answer::Began { offset, length }
                }
                Some(Ok(LogEvent::Piece(piece))) => {
                    self.gathered.add(piece);
                    continue;
                }
                Some(Ok(LogEvent::Reconnecting { cause })) => Answer::Broken(cause),
                Some(Ok(LogEvent::Reconnected)) => Answer::Restored,
                Some(Ok(LogEvent::End { end, .. })) => Answer::Ended(end),
                Some(Err(error)) => Answer::Failed(told(&error)),
            };
            self.tell_gathered().await?;
            self.asker.tell(answer).await?;
        }
    }

    fn events(
        &self,
        begin: Begin,
    ) -> futures::stream::BoxStream<'static, Result<LogEvent, ClientError>> {
        let options = LogOptions {
            job_id: self.source.job_id.clone(),
            attempt: self.source.attempt,
            stream: self.source.stream,
            begin: match begin {
                Begin::Offset(offset) => LogBegin::Offset(offset),
                Begin::Tail(length) => LogBegin::Tail(length),
            },
            until: LogUntil::AttemptEnd,
        };
        read_log(self.connection.clone(), options, FOR_EVER)
    }

    async fn tell_gathered(&mut self) -> Result<(), Gone> {
        match self.gathered.take() {
            Some(output) => self.asker.tell(output).await,
            None => Ok(()),
        }
    }

    /// Much more has been written than has come.
    async fn is_too_far(&self) -> bool {
        // When it cannot be asked, the stream goes on as it does.
        let length = self.length().await.unwrap_or_default();
        length.saturating_sub(self.gathered.end()) > TOO_FAR
    }

    async fn length(&self) -> Result<u64, ClientError> {
        let request = LogsRequest {
            job_id: self.source.job_id.clone(),
            attempt: self.source.attempt,
            stream: self.source.stream.into(),
            start: Some(Start::Tail(0)),
            follow: false,
        };
        let mut answers = self.connection.jobs().logs(request).await?.into_inner();
        Ok(match answers.message().await?.and_then(|answer| answer.item) {
            Some(Item::Start(start)) => start.length,
            _ => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(length: usize) -> LogPiece {
        let stream = LogStream::Stdout.into();
        LogPiece { stream, data: vec![b'x'; length].into(), ..LogPiece::default() }
    }

    #[test]
    fn what_is_gathered_is_bounded_and_only_its_beginning_is_left_out() {
        let mut gathered = Gathered::default();
        gathered.begin(100);
        for _ in 0..1000 {
            gathered.add(piece(10_000));
            assert!(gathered.size <= MOST);
        }
        assert_eq!(gathered.end(), 100 + 10_000_000);
        let Some(Answer::Output { offset, pieces }) = gathered.take() else { panic!("nothing") };
        assert_eq!(offset + pieces.iter().map(counted).sum::<u64>(), 100 + 10_000_000);
        assert!(pieces.len() > 100);
        assert_eq!(gathered.take(), None);
        gathered.add(piece(1));
        assert!(matches!(gathered.take(), Some(Answer::Output { offset: 10_000_100, .. })));
    }

    #[test]
    fn many_small_pieces_are_bounded_too() {
        let mut gathered = Gathered::default();
        for _ in 0..100_000 {
            gathered.add(piece(1));
        }
        assert!(gathered.pieces.len() <= MOST / PIECE);
        assert_eq!(gathered.end(), 100_000);
    }
}
