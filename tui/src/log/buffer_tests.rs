use baton_proto::v1::{LogPiece, LogStream};
use proptest::prelude::*;

use super::*;

fn piece(stream: LogStream, data: &[u8]) -> LogPiece {
    LogPiece { stream: stream.into(), data: data.to_vec().into(), ..LogPiece::default() }
}

fn out(data: &[u8]) -> LogPiece {
    piece(LogStream::Stdout, data)
}

/// What each line shows, with its origin before it.
fn shown(buffer: &Buffer) -> Vec<String> {
    buffer
        .numbers()
        .filter_map(|number| buffer.line(number))
        .map(|line| {
            let origin = match line.origin {
                Origin::Stdout => ' ',
                Origin::Stderr => 'E',
                Origin::Note(_) => '*',
                Origin::Mark(_) => '-',
            };
            format!("{origin}{}", buffer.text(line).text)
        })
        .collect()
}

#[test]
fn lines_are_found_across_pieces_and_between_streams() {
    let mut buffer = Buffer::default();
    buffer.append(&[
        out(b"one\nt"),
        out(b"wo\nthree"),
        piece(LogStream::Stderr, b"oops\r\n"),
        piece(LogStream::Note, b"output \x1b[31mlimit"),
        out(b" goes on"),
    ]);
    buffer.mark("reconnected");
    assert_eq!(
        shown(&buffer),
        [" one", " two", " three", "Eoops", "*output limit", "  goes on", "-reconnected"]
    );
    assert_eq!(buffer.end(), 27);
    assert_eq!(buffer.number_at(4), 1);
    assert_eq!(buffer.number_at(10), 2);
    assert_eq!(buffer.number_at(1000), 6);
}

#[test]
fn each_stream_keeps_its_own_look() {
    let mut buffer = Buffer::default();
    buffer.append(&[
        out(b"\x1b[1mbold\n"),
        piece(LogStream::Stderr, b"plain\n"),
        out(b"still bold\n"),
    ]);
    let looks = |number| buffer.text(buffer.line(number).unwrap()).runs;
    assert_eq!(looks(0), looks(2));
    assert_eq!(looks(1), []);
}

#[test]
fn a_line_without_an_end_is_shown_in_parts_and_memory_stays_bounded() {
    let mut buffer = Buffer::default();
    let chunk = "é".repeat(32 * 1024);
    for _ in 0..400 {
        buffer.append(&[out(chunk.as_bytes())]);
        assert!(buffer.size() <= ROOM + SLACK);
    }
    assert_eq!(buffer.end(), 400 * 64 * 1024);
    for number in buffer.numbers() {
        let line = buffer.line(number).unwrap();
        assert!(line.length <= LONGEST);
        let text = buffer.text(line).text;
        assert!(text.chars().all(|char| char == 'é'), "a letter was cut");
    }
}

#[test]
fn memory_stays_bounded_however_short_lines_and_pieces_are() {
    let mut buffer = Buffer::default();
    let empty = vec![b'\n'; 64 * 1024];
    for _ in 0..100 {
        buffer.append(&[out(&empty)]);
        assert!(buffer.size() <= ROOM + SLACK);
    }
    assert!(buffer.size() > ROOM / 2);
    let mut buffer = Buffer::default();
    for second in 0..400_000_i64 {
        let time = Some(prost_types::Timestamp { seconds: second, nanos: 0 });
        buffer.append(&[LogPiece { time, ..out(b".") }]);
    }
    assert!(buffer.size() <= ROOM + SLACK);
    assert!(buffer.size() > ROOM / 2);
}

#[test]
fn what_is_dropped_at_the_beginning_changes_no_number() {
    let mut buffer = Buffer::default();
    for number in 0..200_000 {
        buffer.append(&[out(format!("line {number}\n").as_bytes())]);
    }
    let numbers = buffer.numbers();
    assert!(numbers.start > 0);
    assert_eq!(numbers.end, 200_000);
    for number in [numbers.start, numbers.end - 1] {
        let line = buffer.line(number).unwrap();
        assert_eq!(buffer.text(line).text, format!("line {number}"));
        assert_eq!(buffer.number_at(line.offset), number);
    }
    assert_eq!(buffer.line(numbers.start).unwrap().offset, buffer.start());
}

#[test]
fn scrolling_back_page_by_page_reaches_the_beginning_in_bounded_memory() {
    let whole: Vec<u8> =
        (0..400_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
    let page = 128 * 1024;
    let mut buffer = Buffer::at(whole.len() as u64);
    let mut dropped = false;
    while buffer.start() > 0 {
        let to = buffer.start() as usize;
        let from = to.saturating_sub(page);
        let last = buffer.numbers().start;
        let was = buffer.line(last).map(Line::end);
        dropped |= buffer.prepend(from as u64, &[out(&whole[from..to])]);
        assert_eq!(buffer.line(last).map(Line::end), was);
        assert!(buffer.size() <= ROOM + SLACK);
    }
    assert!(dropped);
    let text = |buffer: &Buffer, number| buffer.text(buffer.line(number).unwrap()).text;
    assert_eq!(text(&buffer, buffer.numbers().start), "line 0");

    // And forwards again.
    while buffer.end() < whole.len() as u64 {
        let from = buffer.end() as usize;
        let to = whole.len().min(from + page);
        buffer.append(&[out(&whole[from..to])]);
        assert!(buffer.size() <= ROOM + SLACK);
    }
    assert_eq!(text(&buffer, buffer.numbers().end - 1), "line 399999");
}

#[test]
fn notes_at_the_end_do_not_come_twice() {
    let mut buffer = Buffer::default();
    let note = piece(LogStream::Note, b"full");
    buffer.append(&[out(b"a\n"), note.clone()]);
    buffer.drop_last_remarks();
    buffer.append(&[note]);
    assert_eq!(shown(&buffer), [" a", "*full"]);
}

/// Pieces of both streams, with lines, sequences and long stretches.
fn pieces() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let part = prop_oneof![
        4 => "[a-zé]{0,8}\n?".prop_map(String::into_bytes),
        1 => Just(b"\x1b[31m".to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => (1..3 * LONGEST).prop_map(|length| vec![b'x'; length]),
        1 => (1..LONGEST).prop_map(|length| "\u{6f22}".repeat(length).into_bytes()),
    ];
    prop::collection::vec((any::<bool>(), part), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_it_is_cut_and_in_which_order_pages_come_makes_no_difference(
        pieces in pieces(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let stream = |stderr| if stderr { LogStream::Stderr } else { LogStream::Stdout };
        let whole: Vec<_> =
            pieces.iter().map(|(stderr, data)| piece(stream(*stderr), data)).collect();
        let mut expected = Buffer::default();
        expected.append(&whole);

        let bytes: Vec<(bool, u8)> = pieces
            .iter()
            .flat_map(|(stderr, data)| data.iter().map(|byte| (*stderr, *byte)))
            .collect();
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let page = |from: usize, to: usize| -> Vec<_> {
            bytes[from..to]
                .chunk_by(|(a, _), (b, _)| a == b)
                .map(|chunk| {
                    let data: Vec<u8> = chunk.iter().map(|(_, byte)| *byte).collect();
                    piece(stream(chunk[0].0), &data)
                })
                .collect()
        };
        let mut forwards = Buffer::default();
        let mut backwards = Buffer::at(bytes.len() as u64);
        for pair in places.windows(2) {
            forwards.append(&page(pair[0], pair[1]));
        }
        for pair in places.windows(2).rev() {
            backwards.prepend(pair[0] as u64, &page(pair[0], pair[1]));
        }
        prop_assert_eq!(&forwards.lines, &expected.lines);
        prop_assert_eq!(&backwards.lines, &expected.lines);
        prop_assert_eq!(forwards.looks, expected.looks);
        prop_assert_eq!(backwards.looks, expected.looks);
    }
}
