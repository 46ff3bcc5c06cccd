//! What jobs are shown, as a person writes it: words such as `state:failed` and `project:web`, and
//! everything else is a text in the job's name.

use std::{fmt, str::FromStr};

use baton_proto::v1::{JobState, ListJobsRequest};

use crate::screens::states::{FAILED, JOB_STATES, job_state_name};

/// Which jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    states: Vec<JobState>,
    projects: Vec<String>,
    labels: Vec<String>,
    runner: String,
    dead_letters: bool,
    text: String,
}

/// What a filter may begin a word with.
pub(super) fn words() -> Vec<String> {
    let states = JOB_STATES.iter().map(|(name, _)| format!("state:{name}"));
    let others = ["project:", "label:", "runner:", "dead"].map(str::to_owned);
    states.chain(others).collect()
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        let mut rest = Vec::new();
        for word in text.split_whitespace() {
            match word.split_once(':') {
                Some(("state", names)) => {
                    for name in names.split(',') {
                        let state = JOB_STATES.iter().find(|(known, _)| *known == name);
                        let (_, state) =
                            state.ok_or_else(|| format!("there is no state `{name}`"))?;
                        filter.states.push(*state);
                    }
                }
                Some(("project", "") | ("label", "") | ("runner", "")) => {
                    return Err(format!("`{word}` needs a name"));
                }
                Some(("project", name)) => filter.projects.push(name.to_owned()),
                Some(("label", name)) => filter.labels.push(name.to_owned()),
                Some(("runner", name)) => name.clone_into(&mut filter.runner),
                _ if word == "dead" => filter.dead_letters = true,
                _ => rest.push(word),
            }
        }
        filter.text = rest.join(" ");
        Ok(filter)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.states.is_empty() {
            let names: Vec<&str> = self.states.iter().map(|state| job_state_name(*state)).collect();
            words.push(format!("state:{}", names.join(",")));
        }
        words.extend(self.projects.iter().map(|name| format!("project:{name}")));
        words.extend(self.labels.iter().map(|name| format!("label:{name}")));
        words.extend((!self.runner.is_empty()).then(|| format!("runner:{}", self.runner)));
        words.extend(self.dead_letters.then(|| "dead".to_owned()));
        words.extend((!self.text.is_empty()).then(|| self.text.clone()));
        f.write_str(&words.join(" "))
    }
}

impl Filter {
    /// All that a runner had.
    pub(crate) fn of_runner(runner: &str) -> Self {
        Self { runner: runner.to_owned(), ..Self::default() }
    }

    pub(super) fn request(&self, page_size: u32) -> ListJobsRequest {
        ListJobsRequest {
            projects: self.projects.clone(),
            states: self.states.iter().map(|state| i32::from(*state)).collect(),
            runner: self.runner.clone(),
            labels: self.labels.clone(),
            text: self.text.clone(),
            dead_letters: self.dead_letters,
            page_size,
            ..ListJobsRequest::default()
        }
    }

    /// Only what somebody should look at, or everything again.
    pub(super) fn toggle_problems(&mut self) {
        let on = self.states != FAILED;
        self.states = if on { FAILED.to_vec() } else { Vec::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_shown_as_it_can_be_written() {
        let text = "state:failed,lost project:web label:gpu runner:r1 dead unit tests";
        let filter: Filter = text.parse().unwrap();
        assert_eq!(filter.to_string(), text);
        let request = filter.request(5);
        assert_eq!((request.text.as_str(), request.page_size), ("unit tests", 5));
        assert_eq!(request.states, [5, 9]);
        assert_eq!(Filter::default().to_string(), "");
    }

    #[test]
    fn a_mistake_is_named() {
        let mistake = |text: &str| text.parse::<Filter>().unwrap_err();
        assert_eq!(mistake("state:broken"), "there is no state `broken`");
        assert_eq!(mistake("project:"), "`project:` needs a name");
        assert_eq!("a:b".parse::<Filter>().unwrap().text, "a:b");
    }
}
