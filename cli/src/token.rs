//! The token, or the file that has it: from flags, variables or a config file,
//! whichever of them comes first and has either. Between the two latter the command decides.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::{environment::Environment, exit::UsageError};

/// The options of every command that needs a token.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TokenArgs {
    /// The token; others can see it on a command line [env: BATON_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// File with the token [env: BATON_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// The token of a command that talks to a cluster, for which variables come before the
    /// config file. `configured` is what that has.
    ///
    /// # Errors
    /// [`UsageError`] when one place gives both, or none gives either.
    pub(crate) fn resolve(
        &self,
        environment: &Environment,
        configured: Self,
    ) -> anyhow::Result<String> {
        first([self.given(), Self::variables(environment)?, configured.of_file()])
    }

    /// The token of a command that serves: what its config file has is meant for it, and
    /// comes before variables that are somebody's who uses a cluster.
    ///
    /// # Errors
    /// As [`TokenArgs::resolve`].
    pub(crate) fn resolve_serving(
        &self,
        environment: &Environment,
        configured: Self,
    ) -> anyhow::Result<String> {
        first([self.given(), configured.of_file(), Self::variables(environment)?])
    }

    fn given(&self) -> Place {
        (self.clone(), "--token and --token-file")
    }

    fn of_file(self) -> Place {
        (self, "`token` and `token_file` in the config file")
    }

    fn variables(environment: &Environment) -> Result<Place, UsageError> {
        let variables = Self {
            token: environment.text("BATON_TOKEN")?,
            token_file: environment.get("BATON_TOKEN_FILE").map(PathBuf::from),
        };
        Ok((variables, "BATON_TOKEN and BATON_TOKEN_FILE"))
    }
}

/// What a place gives, and what the two are called there.
type Place = (TokenArgs, &'static str);

/// The token of the first place that gives one.
fn first(places: [Place; 3]) -> anyhow::Result<String> {
    for (given, names) in places {
        let token = given.token.filter(|token| !token.is_empty());
        let file = given.token_file.filter(|file| !file.as_os_str().is_empty());
        match (token, file) {
            (None, None) => {}
            (Some(token), None) => return Ok(token),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(&file)
                    .with_context(|| format!("cannot read the token in {}", file.display()))?;
                let token = text.trim();
                if token.is_empty() {
                    let text = format!("the token file {} is empty", file.display());
                    return Err(UsageError(text).into());
                }
                return Ok(token.to_owned());
            }
            (Some(_), Some(_)) => {
                return Err(UsageError(format!("both {names} are given; give one")).into());
            }
        }
    }
    let text = "no token; set BATON_TOKEN or BATON_TOKEN_FILE, or write `token` or \
                    `token_file` into the config file (`baton dev` makes one and says where it is)";
    Err(UsageError(text.to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(token: &str, file: &str) -> TokenArgs {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        TokenArgs { token: given(token), token_file: given(file).map(PathBuf::from) }
    }

    fn none() -> Environment {
        Environment::default()
    }

    #[test]
    fn a_flag_comes_before_a_variable_and_that_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "in a file\n").unwrap();
        let file = file.to_str().unwrap();
        let variable = || Environment::of([("BATON_TOKEN", "variable")]);
        let named = || Environment::of([("BATON_TOKEN_FILE", file)]);
        let table = [
            (given("flag", ""), variable(), "flag"),
            (given("", file), variable(), "in a file"),
            (given("", ""), variable(), "variable"),
            (given("", ""), named(), "in a file"),
            (given("", ""), none(), "configured"),
        ];
        for (flags, environment, token) in table {
            let configured = given("configured", "");
            assert_eq!(flags.resolve(&environment, configured).unwrap(), token);
        }
    }

    #[test]
    fn a_command_that_serves_takes_what_its_file_says_before_a_variable() {
        let variable = Environment::of([("BATON_TOKEN", "variable")]);
        let table = [
            (given("flag", ""), given("configured", ""), "flag"),
            (given("", ""), given("configured", ""), "configured"),
            (given("", ""), given("", ""), "variable"),
        ];
        for (flags, configured, token) in table {
            assert_eq!(flags.resolve_serving(&variable, configured).unwrap(), token);
        }
    }

    #[test]
    fn two_in_one_place_contradict_each_other_and_none_is_not_enough() {
        let both = Environment::of([("BATON_TOKEN", "t"), ("BATON_TOKEN_FILE", "/f")]);
        let table = [
            (given("t", "/f"), none(), given("", ""), "--token-file"),
            (given("", ""), both, given("", ""), "BATON_TOKEN_FILE"),
            (given("", ""), none(), given("t", "/f"), "`token_file`"),
            (given("", ""), none(), given("", ""), "BATON_TOKEN"),
        ];
        for (flags, environment, configured, named) in table {
            let error = flags.resolve(&environment, configured).unwrap_err();
            assert!(error.downcast_ref::<UsageError>().is_some());
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
