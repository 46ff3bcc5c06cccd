//! The options of a job that say what of a repository comes along, and the source that
//! they make of what `--source` says when the runner is to find it.

use baton_client::source::JobSource;
use baton_proto::v1::{self, source::Kind};
use clap::Args;

use crate::{exit::UsageError, job_file::Places};

/// What of a repository comes along.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GitOptions {
    /// How many commits of history a git: source brings along [default: all]
    #[arg(long = "git-depth", value_name = "N", value_parser = depth)]
    pub(crate) depth: Option<u32>,
    /// Leave the submodules of a git: source out
    #[arg(long = "git-no-submodules", value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub(crate) no_submodules: Option<bool>,
    /// Fetch the files that a git: source has in Git LFS, instead of leaving their pointers
    #[arg(long = "git-lfs", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) lfs: Option<bool>,
}

impl GitOptions {
    /// The source, if it is one that the runner has or fetches itself.
    ///
    /// # Errors
    /// [`UsageError`] when there are options for a repository and none is given.
    pub(crate) fn source(
        &self,
        given: Option<&JobSource>,
        places: &Places,
    ) -> Result<Option<v1::Source>, UsageError> {
        if let Some(JobSource::Git { url, reference }) = given {
            return Ok(Some(of(Kind::Git(v1::Git {
                url: url.clone(),
                r#ref: reference.clone(),
                depth: self.depth.unwrap_or_default(),
                no_submodules: self.no_submodules.unwrap_or_default(),
                lfs: self.lfs.unwrap_or_default(),
            }))));
        }
        self.refuse(given.is_some(), places)?;
        match given {
            Some(JobSource::Workspace { path }) => {
                Ok(Some(of(Kind::Workspace(v1::Workspace { path: path.clone() }))))
            }
            _ => Ok(None),
        }
    }

    /// The source is none of Git. What the job file says of one that it has is no mistake
    /// when another one is given beside it.
    fn refuse(&self, has_source: bool, places: &Places) -> Result<(), UsageError> {
        let is_replaced = has_source && !places.contains_key("source");
        let given = [
            ("git_depth", self.depth.is_some()),
            ("git_no_submodules", self.no_submodules.is_some()),
            ("git_lfs", self.lfs.is_some()),
        ];
        let wrong = |field: &str| !(is_replaced && places.contains_key(field));
        let Some((field, _)) = given.into_iter().find(|(field, given)| *given && wrong(field))
        else {
            return Ok(());
        };
        let option = format!("--{}", field.replace('_', "-"));
        let place = places.get(field).unwrap_or(&option);
        let problem = "is for a source such as git:URL#REF; leave it out, or give one";
        Err(UsageError(format!("{place}: {problem}")))
    }
}

fn of(kind: Kind) -> v1::Source {
    v1::Source { kind: Some(kind) }
}

/// For the API no depth and zero are the same.
pub(crate) fn depth(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("not a whole number from 1 to 1000000".to_owned()),
        Ok(depth) => Ok(depth),
    }
}

/// Whether something is wanted, as the job file says it.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{environment::Environment, job_options::JobOptions};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: JobOptions,
    }

    fn options(line: &str) -> JobOptions {
        Line::try_parse_from(line.split(' ')).unwrap().options
    }

    #[test]
    fn a_repository_and_a_workspace_are_told_to_the_runner() {
        let kind = |line: &str| {
            options(line)
                .job(&Environment::default())
                .unwrap()
                .spec
                .source
                .and_then(|source| source.kind)
        };
        let (url, r#ref) = ("https://example.org/app".to_owned(), "v1".to_owned());
        let plain = v1::Git { url, r#ref, ..v1::Git::default() };
        let line = "baton --source git:https://example.org/app#v1";
        assert_eq!(kind(&format!("{line} -- true")), Some(Kind::Git(plain.clone())));
        let all = v1::Git { depth: 1, no_submodules: true, lfs: true, ..plain.clone() };
        let options = "--git-depth 1 --git-no-submodules --git-lfs";
        assert_eq!(kind(&format!("{line} {options} -- true")), Some(Kind::Git(all)));
        let none = "--git-no-submodules=false --git-lfs=false";
        assert_eq!(kind(&format!("{line} {none} -- true")), Some(Kind::Git(plain)));
        let workspace = Kind::Workspace(v1::Workspace { path: "team/app".to_owned() });
        assert_eq!(kind("baton --source workspace:team/app -- true"), Some(workspace));
        assert_eq!(kind("baton --source . -- true"), None);
    }

    #[test]
    fn what_a_runner_must_not_be_told_is_refused_here_with_the_option() {
        for (line, told) in [
            ("--source git:https://u:p@example.org/x", "--source: must not contain a password"),
            ("--source git:ext::x", "--source: must not name a remote helper"),
            ("--source git:https://example.org/x#-x", "--source: must be names"),
            ("--source workspace:../x", "--source: must not contain `..`"),
            ("--source git:https://e.org/x --git-depth 1000001", "--git-depth: must be at most"),
            ("--source . --git-depth 1", "--git-depth: is for a source such as git:"),
            ("--git-lfs", "--git-lfs: is for a source"),
        ] {
            let line = format!("baton {line} -- true");
            let refused = options(&line).job(&Environment::default()).err().unwrap().to_string();
            assert!(refused.starts_with(told), "{line}: {refused}");
        }
    }
}
