//! Any way of sending a log stores the same bytes, and reading from any place
//! gives what comes after that place.

use proptest::prelude::*;

use super::*;

type Frame = (Kind, Vec<u8>);

fn log() -> impl Strategy<Value = Vec<Frame>> {
    let kind = prop_oneof![4 => Just(Kind::Stdout), 2 => Just(Kind::Stderr), 1 => Just(Kind::Note)];
    let frame = (kind, 0..40_usize, any::<u8>()).prop_map(|(kind, length, first)| {
        let bytes = (0..length).map(|at| match kind {
            Kind::Note => b'a' + first % 26,
            _ => first.wrapping_add(u8::try_from(at).unwrap()),
        });
        (kind, bytes.collect())
    });
    prop::collection::vec(frame, 0..12)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn borrowed(log: &[Frame]) -> Vec<(Kind, &[u8])> {
    log.iter().map(|(kind, payload)| (*kind, payload.as_slice())).collect()
}

/// What a reader must get: adjacent bytes of one frame joined, so that how they
/// were cut does not matter.
#[derive(Debug, Default, PartialEq)]
struct Content {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Each with the bytes of both streams that came before it.
    notes: Vec<(usize, Vec<u8>)>,
    end: bool,
}

impl Content {
    fn add(&mut self, stream: Stream, data: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(data),
            Stream::Stderr => self.stderr.extend_from_slice(data),
            Stream::Note if data.is_empty() => {}
            Stream::Note => {
                self.notes.push((self.stdout.len() + self.stderr.len(), data.to_vec()));
            }
        }
    }
}

fn stream(kind: Kind) -> Stream {
    match kind {
        Kind::Stdout => Stream::Stdout,
        Kind::Stderr => Stream::Stderr,
        Kind::Note | Kind::End => Stream::Note,
    }
}

fn passes(filter: StreamFilter, stream: Stream) -> bool {
    match filter {
        StreamFilter::Both => true,
        StreamFilter::Stdout => stream != Stream::Stderr,
        StreamFilter::Stderr => stream != Stream::Stdout,
    }
}

/// What comes after `skip` counted bytes, the slow and plain way.
fn after_offset(log: &[Frame], filter: StreamFilter, mut skip: usize) -> Content {
    let mut content = Content::default();
    for (kind, payload) in log.iter().filter(|(kind, _)| passes(filter, stream(*kind))) {
        let cut = if *kind == Kind::Note { 0 } else { skip.min(payload.len()) };
        if *kind != Kind::Note || skip == 0 {
            content.add(stream(*kind), &payload[cut..]);
        }
        skip -= cut;
    }
    content
}

/// What comes after a position; `None` where no piece can end.
fn after_position(log: &[Frame], filter: StreamFilter, position: usize) -> Option<Content> {
    let mut content = Content::default();
    let mut at = 0;
    for (kind, payload) in log {
        let body = at + spool::HEADER_LEN;
        let next = body + payload.len();
        let cut = position.saturating_sub(body).min(payload.len());
        if at < position && position < next && (position < body || *kind == Kind::Note) {
            return None;
        }
        if position < next && passes(filter, stream(*kind)) {
            content.add(stream(*kind), &payload[cut..]);
        }
        at = next;
    }
    (position <= at).then_some(content)
}

const FILTERS: [StreamFilter; 3] = [StreamFilter::Both, StreamFilter::Stdout, StreamFilter::Stderr];

/// Reads to the end; also each resume position with what was read before it.
async fn read(files: &Files, start: Start, filter: StreamFilter) -> Result<(Content, Vec<u64>)> {
    let mut reader = files.read_log(log_name(1), start, filter, Follow::No).await?;
    let mut content = Content::default();
    let mut resumes = Vec::new();
    while let Some(item) = reader.next().await? {
        match item {
            LogItem::Piece { stream, data, next, .. } => {
                assert!(!data.is_empty());
                content.add(stream, &data);
                resumes.push(next);
            }
            LogItem::End(_) => content.end = true,
        }
    }
    Ok((content, resumes))
}

async fn check_every_place(files: &Files, log: &[Frame], file_length: usize, sealed: bool) {
    let with_end = |content| Content { end: sealed, ..content };
    for filter in FILTERS {
        let total: usize = log.iter().map(|(_, payload)| payload.len()).sum();
        for offset in 0..=total + 1 {
            let (content, resumes) =
                read(files, Start::Offset(offset as u64), filter).await.unwrap();
            assert_eq!(content, with_end(after_offset(log, filter, offset)), "{offset} {filter:?}");
            for next in resumes.into_iter().filter(|_| offset == 0) {
                let expected = after_position(log, filter, usize::try_from(next).unwrap());
                let (content, _) = read(files, Start::Position(next), filter).await.unwrap();
                assert_eq!(Some(content), expected.map(with_end), "next {next} {filter:?}");
            }
        }
        let frames_length = frames(&borrowed(log)).len();
        for position in 0..=file_length + 2 {
            let result = read(files, Start::Position(position as u64), filter).await;
            let expected = match position {
                _ if position <= frames_length => after_position(log, filter, position),
                // Behind the end frame there is nothing, not even the end.
                _ if position == file_length => Some(Content::default()),
                _ => None,
            };
            match (result, expected) {
                (Ok((content, _)), Some(expected)) if position <= frames_length => {
                    assert_eq!(content, with_end(expected), "position {position} {filter:?}");
                }
                (Ok((content, _)), Some(expected)) => assert_eq!(content, expected),
                (Err(FilesError::BadPosition { .. }), None) => {}
                (other, expected) => panic!("{position}: {other:?}, expected {expected:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_way_of_sending_stores_the_same_bytes(
        log in log(),
        chunks in prop::collection::vec((1..50_usize, 0..60_usize), 1..200),
        reopen in any::<u8>(),
    ) {
        let root = tempfile::tempdir().unwrap();
        let content = complete(&borrowed(&log));
        run(async {
            let mut files = open(root.path());
            let mut appender = files.append(log_name(1), 10_000).await.unwrap();
            let mut sent = 0;
            let chunks = chunks.iter().cycle().enumerate();
            for (number, (length, back)) in chunks {
                let from = sent - sent.min(*back);
                let to = content.len().min(from + length);
                let bytes = Bytes::copy_from_slice(&content[from..to]);
                sent = sent.max(to);
                let length = appender.write(from as u64, bytes).await.unwrap();
                assert_eq!(length, sent as u64);
                if sent == content.len() {
                    break;
                }
                // Some chunks only go over what is there; they must not go on for ever.
                sent = match number % 7 {
                    6 => {
                        let byte = Bytes::copy_from_slice(&content[sent..=sent]);
                        usize::try_from(appender.write(sent as u64, byte).await.unwrap()).unwrap()
                    }
                    _ => sent,
                };
                if sent == content.len() {
                    break;
                }
                if number % 16 == usize::from(reopen % 16) {
                    drop((appender, files));
                    files = open(root.path());
                    appender = files.append(log_name(1), 10_000).await.unwrap();
                    assert_eq!(appender.length(), sent as u64);
                }
            }
            appender.seal(content.len() as u64, digest(&content)).await.unwrap();
            assert_eq!(on_disk(&files, log_name(1)), content);
        });
    }

    #[test]
    fn reading_from_any_place_gives_the_rest(log in log()) {
        let root = tempfile::tempdir().unwrap();
        let content = frames(&borrowed(&log));
        run(async {
            let files = open(root.path());
            let mut appender = files.append(log_name(1), 10_000).await.unwrap();
            appender.write(0, content.clone().into()).await.unwrap();
            check_every_place(&files, &log, content.len(), false).await;
        });
        let whole = complete(&borrowed(&log));
        run(async {
            let files = open(root.path());
            check_every_place(&files, &log, content.len(), false).await;
            let mut appender = files.append(log_name(1), 10_000).await.unwrap();
            let rest = Bytes::copy_from_slice(&whole[content.len()..]);
            appender.write(content.len() as u64, rest).await.unwrap();
            appender.seal(whole.len() as u64, digest(&whole)).await.unwrap();
            check_every_place(&files, &log, whole.len(), true).await;
        });
    }
}
