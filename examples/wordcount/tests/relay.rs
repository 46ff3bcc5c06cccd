//! Counts the words of a whole text.

use wordcount::Counts;

const RELAY: &str = include_str!("relay.txt");

#[test]
fn the_most_frequent_words_of_the_text_are_found() {
    let counts = Counts::of(RELAY);
    assert_eq!(counts.top(2), [("the", 9), ("baton", 4)]);
    assert_eq!(counts.total(), 53);
}

#[test]
fn a_text_twice_has_every_word_twice() {
    let once = Counts::of(RELAY);
    let twice = Counts::of(&format!("{RELAY}\n{RELAY}"));
    assert_eq!(twice.total(), 2 * once.total());
    for (word, count) in once.top(usize::MAX) {
        assert_eq!(twice.get(word), 2 * count, "{word}");
    }
}
