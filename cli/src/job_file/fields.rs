//! Which fields a job file has and of what kind each is, with its place. What the texts
//! in them may say is the options' to judge.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_saphyr::{Error, MergeKeyPolicy, Spanned, Tagged};

/// What to do about a tag.
pub(super) const NO_TAGS: &str = "job files have no tags; put a text that begins with ! in quotes";

/// The fields. Numbers and times are texts here, as they are on the command line.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fields {
    pub(super) command: Field<Words>,
    pub(super) script: Field<Text>,
    pub(super) source: Field<Text>,
    pub(super) git_depth: Field<Text>,
    pub(super) git_no_submodules: Field<Text>,
    pub(super) git_lfs: Field<Text>,
    pub(super) labels: Field<Words>,
    pub(super) env: Field<Variables>,
    pub(super) masks: Field<Words>,
    pub(super) traceparent: Field<Text>,
    pub(super) project: Field<Text>,
    pub(super) name: Field<Text>,
    pub(super) priority: Field<Text>,
    pub(super) soft_timeout: Field<Text>,
    pub(super) timeout: Field<Text>,
    pub(super) queue_timeout: Field<Text>,
    pub(super) attempts: Field<Text>,
    pub(super) on_lost: Field<Text>,
    pub(super) output_limit: Field<Text>,
    pub(super) executor: Field<Text>,
    pub(super) image: Field<Text>,
    pub(super) pull: Field<Text>,
    pub(super) entrypoint: Field<Text>,
    pub(super) user: Field<Text>,
    pub(super) network: Field<Text>,
    pub(super) mounts: Field<Words>,
    pub(super) tmpfs: Field<Words>,
    pub(super) services: Field<Services>,
    pub(super) target: Field<Text>,
    pub(super) cpus: Field<Text>,
    pub(super) memory: Field<Text>,
    pub(super) processes: Field<Text>,
    pub(super) open_files: Field<Text>,
    pub(super) artifacts: Field<Words>,
    pub(super) artifact_when: Field<Text>,
    pub(super) inputs: Field<Words>,
    pub(super) caches: Field<Words>,
    pub(super) cache_fallbacks: Field<Words>,
    pub(super) idempotency_key: Field<Text>,
}

impl Fields {
    /// Reads them from YAML.
    ///
    /// # Errors
    /// The parser's, with the place.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        serde_saphyr::from_str_with_options(text, yaml())
    }
}

/// The YAML of job files. They have no use for anchors, and so need no limit for what
/// aliases of aliases would grow to.
pub(super) fn yaml() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_aliases: 0, max_anchors: 0 },
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// A field that may be missing. One that is there has a value: null is none.
#[derive(Debug)]
pub(super) struct Field<T>(pub(super) Option<Spanned<T>>);

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

/// A text, a number or a truth value, as it is written. The tag of YAML that a lone `!`
/// is would vanish from a command in silence.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Tagged::deserialize(deserializer)? {
            Tagged(text, None) => Ok(Self(text)),
            Tagged(_, Some(_)) => Err(D::Error::custom(NO_TAGS)),
        }
    }
}

/// A list of texts.
#[derive(Debug)]
pub(super) struct Words(pub(super) Vec<Text>);

impl Words {
    pub(super) fn texts(&self) -> Vec<String> {
        self.0.iter().map(|Text(text)| text.clone()).collect()
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Words;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a list such as [ONE, TWO]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Words, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(words)).map(Words)
            }
        }
        deserializer.deserialize_any(List)
    }
}

/// Variables, with their places; one without a value gets the one it has here.
#[derive(Debug)]
pub(super) struct Variables(pub(super) Vec<(Spanned<String>, Option<Text>)>);

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Variables;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("variables such as {NAME: VALUE}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Variables, A::Error> {
                let mut variables = Vec::new();
                while let Some(variable) = map.next_entry()? {
                    variables.push(variable);
                }
                Ok(Variables(variables))
            }
        }
        deserializer.deserialize_any(Map)
    }
}

/// A container beside the job's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) image: Text,
    #[serde(default)]
    pub(super) env: BTreeMap<String, Text>,
    #[serde(default)]
    pub(super) command: Vec<Text>,
    #[serde(default)]
    pub(super) health: Vec<Text>,
    pub(super) ready_within: Option<Text>,
}

/// Containers by their names.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Services(pub(super) BTreeMap<String, Service>);
