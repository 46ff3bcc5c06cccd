//! Folding of a job's output in the logs of CI systems. Only makes the marks;
//! where they are written is the caller's.

use crate::{environment::Environment, output::table::printable};

/// A CI system whose logs fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    /// GitHub Actions.
    GitHub,
    /// GitLab CI.
    GitLab,
    /// Buildkite.
    Buildkite,
}

impl Provider {
    /// The system that `environment` belongs to.
    pub(crate) fn detect(environment: &Environment) -> Option<Self> {
        if environment.is_true("GITHUB_ACTIONS") {
            Some(Self::GitHub)
        } else if environment.is_true("GITLAB_CI") {
            Some(Self::GitLab)
        } else if environment.is_true("BUILDKITE") {
            Some(Self::Buildkite)
        } else {
            None
        }
    }
}

/// One group in a log.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    provider: Provider,
    /// Names the section; for GitHub it also ends the ban on workflow commands,
    /// so the job must not be able to guess it.
    secret: String,
    /// The job's output may contain workflow commands.
    commands: bool,
}

impl Group {
    /// A group that is not open yet. `secret` is letters and digits that no one
    /// can guess; `commands` lets GitHub obey commands in the job's output.
    pub(crate) fn new(provider: Provider, secret: String, commands: bool) -> Self {
        Self { provider, secret, commands }
    }

    /// The mark before the output. `seconds` is now, since the Unix epoch.
    pub(crate) fn open(&self, title: &str, seconds: i64) -> String {
        let title = printable(title);
        match self.provider {
            Provider::GitHub => {
                let escaped = title.replace('%', "%25");
                let stop = if self.commands {
                    String::new()
                } else {
                    format!("::stop-commands::{}\n", self.secret)
                };
                format!("::group::{escaped}\n{stop}")
            }
            Provider::GitLab => {
                format!("\x1b[0Ksection_start:{seconds}:baton_{}\r\x1b[0K{title}\n", self.secret)
            }
            Provider::Buildkite => format!("--- {title}\n"),
        }
    }

    /// The mark after the output, for the start of a line. `failed` unfolds
    /// the group where that is possible.
    pub(crate) fn close(&self, failed: bool, seconds: i64) -> String {
        match self.provider {
            Provider::GitHub if self.commands => "::endgroup::\n".to_owned(),
            Provider::GitHub => format!("::{}::\n::endgroup::\n", self.secret),
            Provider::GitLab => {
                format!("\x1b[0Ksection_end:{seconds}:baton_{}\r\x1b[0K\n", self.secret)
            }
            Provider::Buildkite if failed => "^^^ +++\n".to_owned(),
            Provider::Buildkite => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(provider: Provider, commands: bool) -> Group {
        Group::new(provider, "s3".to_owned(), commands)
    }

    #[test]
    fn each_system_is_known_by_its_mark() {
        let detect = |name| Provider::detect(&Environment::of([(name, "true")]));
        assert_eq!(detect("GITHUB_ACTIONS"), Some(Provider::GitHub));
        assert_eq!(detect("GITLAB_CI"), Some(Provider::GitLab));
        assert_eq!(detect("BUILDKITE"), Some(Provider::Buildkite));
        assert_eq!(detect("CI"), None);
        let off = Environment::of([("GITHUB_ACTIONS", "false")]);
        assert_eq!(Provider::detect(&off), None);
    }

    #[test]
    fn github_obeys_no_command_of_the_job() {
        let group = group(Provider::GitHub, false);
        assert_eq!(group.open("t", 1), "::group::t\n::stop-commands::s3\n");
        assert_eq!(group.close(true, 2), "::s3::\n::endgroup::\n");
    }

    #[test]
    fn github_obeys_the_job_when_told_so() {
        let group = group(Provider::GitHub, true);
        assert_eq!(group.open("t", 1), "::group::t\n");
        assert_eq!(group.close(true, 2), "::endgroup::\n");
    }

    #[test]
    fn a_title_cannot_start_a_command_of_its_own() {
        let text = group(Provider::GitHub, false).open("a\n::set-env name=X::1 100%", 1);
        assert_eq!(text, "::group::a ::set-env name=X::1 100%25\n::stop-commands::s3\n");
    }

    #[test]
    fn gitlab_gets_sections_with_times() {
        let group = group(Provider::GitLab, false);
        assert_eq!(group.open("t", 10), "\x1b[0Ksection_start:10:baton_s3\r\x1b[0Kt\n");
        assert_eq!(group.close(false, 12), "\x1b[0Ksection_end:12:baton_s3\r\x1b[0K\n");
    }

    #[test]
    fn buildkite_unfolds_a_failure() {
        let group = group(Provider::Buildkite, false);
        assert_eq!(group.open("t", 1), "--- t\n");
        assert_eq!(group.close(false, 1), "");
        assert_eq!(group.close(true, 1), "^^^ +++\n");
    }
}
