//! Searches over real logs.

use baton_proto::spool::{Kind, MAX_PAYLOAD, push_frame};
use proptest::prelude::*;

use super::*;
use crate::files::{LineMatcher, StreamFilter};

type Frames = Vec<(Kind, Vec<u8>)>;

/// A log of these frames that still grows.
async fn log(store: &Files, frames: &Frames) -> FileName {
    let name = log_name(1);
    let mut bytes = Vec::new();
    for (kind, payload) in frames {
        push_frame(&mut bytes, *kind, 1, payload);
    }
    let mut appender = store.append(name, u64::MAX).await.unwrap();
    let mut offset = 0;
    for piece in bytes.chunks(1024 * 1024) {
        appender.write(offset, piece.to_vec().into()).await.unwrap();
        offset += piece.len() as u64;
    }
    name
}

async fn found(
    store: &Files,
    name: FileName,
    (filter, text): (StreamFilter, &str),
    offset: u64,
    backwards: bool,
) -> Vec<u64> {
    let matcher = LineMatcher::new(text);
    let mut search = store.search_log(name, filter, matcher, offset, backwards).await.unwrap();
    let mut found = Vec::new();
    loop {
        let step = search.step().await.unwrap();
        found.extend(step.found);
        if step.is_over {
            return found;
        }
    }
}

/// Where the lines begin that have the text, of all that is before or after an offset.
fn expected(
    frames: &Frames,
    (filter, text): (StreamFilter, &str),
    offset: usize,
    backwards: bool,
) -> Vec<u64> {
    let wanted = |kind: Kind| match filter {
        StreamFilter::Both => matches!(kind, Kind::Stdout | Kind::Stderr),
        StreamFilter::Stdout => kind == Kind::Stdout,
        StreamFilter::Stderr => kind == Kind::Stderr,
    };
    let chosen = frames.iter().filter(|(kind, _)| wanted(*kind));
    let all: Vec<u8> = chosen.flat_map(|(_, payload)| payload.clone()).collect();
    let (before, after) = all.split_at(offset.min(all.len()));
    let (looked_at, mut start) = if backwards { (before, 0) } else { (after, offset) };
    let mut lines = Vec::new();
    for line in looked_at.split_inclusive(|byte| *byte == b'\n') {
        if String::from_utf8_lossy(line).contains(text) {
            lines.push(start as u64);
        }
        start += line.len();
    }
    if backwards {
        lines.reverse();
    }
    lines
}

fn frames() -> impl Strategy<Value = Frames> {
    let kind = prop_oneof![Just(Kind::Stdout), Just(Kind::Stderr), Just(Kind::Note)];
    let payload = proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'\n')], 0..9);
    proptest::collection::vec((kind, payload), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn lines_are_found_from_everywhere_both_ways_wherever_frames_begin(
        frames in frames(),
        offset in 0..100usize,
        backwards in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let options = FilesOptions { index_spacing: 40, ..FilesOptions::default() };
            let store = Files::open(folder.path(), options).unwrap();
            let name = log(&store, &frames).await;
            for filter in [StreamFilter::Both, StreamFilter::Stdout, StreamFilter::Stderr] {
                let wanted = (filter, "ab");
                assert_eq!(
                    found(&store, name, wanted, offset as u64, backwards).await,
                    expected(&frames, wanted, offset, backwards)
                );
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_many_megabytes_counts_as_several_and_is_never_held_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = Files::open(folder.path(), FilesOptions::default()).unwrap();
    let mut frames: Frames = vec![(Kind::Stdout, vec![b'x'; MAX_PAYLOAD]); 100];
    frames[50].1[7..10].copy_from_slice(b"abc");
    frames.push((Kind::Stdout, b"\nabc\n".to_vec()));
    let name = log(&store, &frames).await;
    let last = 100 * MAX_PAYLOAD as u64 + 1;
    let text = (StreamFilter::Both, "abc");
    let forwards = found(&store, name, text, 0, false).await;
    assert_eq!((forwards.len(), forwards[1]), (2, last));
    let hit = 50 * MAX_PAYLOAD as u64 + 7;
    assert!(forwards[0] <= hit && hit - forwards[0] < 2 * 1024 * 1024, "{forwards:?}");
    let backwards = found(&store, name, text, u64::MAX, true).await;
    assert_eq!((backwards.len(), backwards[0]), (2, last));
    assert!(backwards[1] <= hit && hit - backwards[1] < 2 * 1024 * 1024, "{backwards:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_a_log_is_known_without_reading_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Files::open(folder.path(), FilesOptions::default()).unwrap();
    assert_eq!(store.log_length(log_name(1), StreamFilter::Both).await.unwrap(), None);
    let frames = vec![
        (Kind::Stdout, b"abc".to_vec()),
        (Kind::Note, b"note".to_vec()),
        (Kind::Stderr, b"de".to_vec()),
    ];
    let name = log(&store, &frames).await;
    for (filter, length) in
        [(StreamFilter::Both, 5), (StreamFilter::Stdout, 3), (StreamFilter::Stderr, 2)]
    {
        assert_eq!(store.log_length(name, filter).await.unwrap(), Some(length));
    }
}
