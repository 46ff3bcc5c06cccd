//! Counts the words of a text.

use std::collections::BTreeMap;

/// How often each word occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, usize>);

impl Counts {
    /// Counts the words of `text`. A word is a run of letters, digits and
    /// apostrophes; upper and lower case are alike.
    pub fn of(text: &str) -> Self {
        let mut counts = BTreeMap::new();
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
        for word in words.map(|word| word.trim_matches('\'')).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_lowercase()).or_insert(0) += 1;
        }
        Self(counts)
    }

    /// How often `word` occurs.
    pub fn get(&self, word: &str) -> usize {
        self.0.get(&word.to_lowercase()).copied().unwrap_or(0)
    }

    /// How many words there are in all.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// The `limit` most frequent words; equally frequent ones by alphabet.
    pub fn top(&self, limit: usize) -> Vec<(&str, usize)> {
        let mut words: Vec<_> = self.0.iter().map(|(word, &count)| (word.as_str(), count)).collect();
        words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        words.truncate(limit);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_has_no_words() {
        assert_eq!(Counts::of("").total(), 0);
        assert_eq!(Counts::of(" \n--\t").total(), 0);
    }

    #[test]
    fn upper_and_lower_case_are_alike() {
        let counts = Counts::of("Baton baton BATON");
        assert_eq!(counts.get("bAtOn"), 3);
    }

    #[test]
    fn an_apostrophe_belongs_to_its_word_but_quotes_do_not() {
        let counts = Counts::of("don't 'quote' me");
        assert_eq!(counts.get("don't"), 1);
        assert_eq!(counts.get("quote"), 1);
    }

    #[test]
    fn words_of_other_alphabets_count_too() {
        assert_eq!(Counts::of("Staffelstab, Стафета, 接力棒").total(), 3);
    }

    #[test]
    fn equally_frequent_words_come_by_alphabet() {
        assert_eq!(Counts::of("b a c a").top(3), [("a", 2), ("b", 1), ("c", 1)]);
    }
}
