//! The texts that a target's shell gets. Everything of a job's that is in them is quoted,
//! and all of them go over standard input: a command line is for everybody there to see.

use std::collections::BTreeMap;

use super::remote::Remote;
use crate::{
    collect::OUTPUT_NAME,
    executor::{Launch, Names},
    shim::COOKIE,
    source::workspace::Workspace,
};

/// What is executed on a target; the rest follows over its standard input.
pub(crate) const SHELL: &str = "exec sh";

/// The first line of both streams of a script. What comes before is what the user's login
/// shell says of its own accord.
pub(crate) const MARK: &str = "-- here begins what baton asked for --";

const COMMON: &str = include_str!("scripts/common.sh");
const CONTROL: &str = include_str!("scripts/control.sh");
const FOLLOW: &str = include_str!("scripts/follow.sh");
const KEEPER: &str = include_str!("scripts/keeper.sh");
const MAKE: &str = include_str!("scripts/make.sh");

/// No disk is larger, and every shell can count so far.
const LIMIT_MAX: u64 = 1 << 60;

/// An attempt's folder on a target.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// The shell text that sets `base` and `D`.
    place: String,
    /// The id of the runner that it belongs to.
    runner: String,
}

impl Folder {
    /// The folder of the attempt that `names` are about.
    pub(crate) fn new(remote: &Remote, names: &Names) -> Self {
        Self::named(&remote.base, &format!("{}-{}", names.lease, remote.token), &names.runner)
    }

    /// The folder that is called `name`.
    pub(crate) fn named(base: &str, name: &str, runner: &str) -> Self {
        let place = format!("{}D=$base/attempts/{name}\n", set_base(base));
        Self { place, runner: runner.to_owned() }
    }

    /// Serves orders. With `job`, what [`job`] made, it makes the folder first. The
    /// target keeps `limit` bytes of each stream.
    pub(crate) fn control(&self, job: Option<&str>, limit: u64) -> String {
        let make = job.map_or_else(String::new, |job| {
            let keeper = format!("{COMMON}{KEEPER}");
            let (runner, keeper, job) = (quote(&self.runner), quote(&keeper), quote(job));
            format!("runner={runner}\nkeeper_text={keeper}\njob_text={job}\n{MAKE}")
        });
        let limit = limit.min(LIMIT_MAX);
        self.group(&format!("limit={limit}\n{COMMON}{FAIL}{make}{CONTROL}"))
    }

    /// Writes the job's output, each stream from an offset.
    pub(crate) fn follow(&self, out: u64, err: u64) -> String {
        self.group(&format!("out={out}\nerr={err}\n{COMMON}{FOLLOW}"))
    }

    /// Fills the work folder from the archive that follows. It says `go` when it may.
    pub(crate) fn unpack(&self) -> String {
        self.group(UNPACK)
    }

    /// Writes the names of all that is in the work folder, each on a line of its own.
    pub(crate) fn names(&self) -> String {
        self.group(NAMES)
    }

    /// Writes an archive of what is named in the lines that follow.
    pub(crate) fn pack(&self) -> String {
        self.group(PACK)
    }

    /// Writes the file with the job's outputs.
    pub(crate) fn output(&self) -> String {
        self.group(&OUTPUT.replace("NAME", OUTPUT_NAME))
    }

    fn group(&self, script: &str) -> String {
        group(&format!("mask=$(umask)\numask 077\n{}{script}", self.place))
    }
}

/// A shell reads all of a group before it does any of it, so that what follows on standard
/// input is left for the commands in it.
fn group(script: &str) -> String {
    format!("{{\necho {mark}\necho {mark} >&2\n{script}}}\n", mark = quote(MARK))
}

/// Says no and why.
const FAIL: &str = r#"fail() {
    echo "fail $(echo "$*" | tr '\n' ' ')"
    exit 1
}
"#;

const UNPACK: &str = r#"if ! command -v tar >/dev/null 2>&1; then
    echo "it has no tar, which the job's source needs" >&2
elif rm -rf "$D/work" && mkdir "$D/work" && cd "$D"; then
    echo go
    tar -xf - && echo done
fi
exit 0
"#;

/// These write to standard output, and say how they fared on standard error. A name that
/// does not fit in a line, or that a tar would take for another, is left out. So is what is in
/// a folder that cannot be read, and the beginning of what `find` says of it is said.
const NAMES: &str = r#"end='
'
if ! command -v find >/dev/null 2>&1; then
    echo "it has no find, which artifacts and caches need" >&2
elif ! cd "$D/work"; then
    :
elif find . \( -name "*$end*" -o -name '*\\*' \) -prune -o \
    \( -type f -o -type l -o -type d -o -type p \) -print 2>"$D/unread"
then
    echo done >&2
elif [ -s "$D/unread" ]; then
    dd bs=1000 count=1 <"$D/unread" >&2 2>/dev/null
    echo >&2
    echo done >&2
else
    echo "its find failed" >&2
fi
exit 0
"#;

/// The list is complete before anything is written.
const PACK: &str = r#"if ! command -v tar >/dev/null 2>&1; then
    echo "it has no tar, which artifacts and caches need" >&2
else
    echo go >&2
    cat >"$D/list" && cd "$D/work" && tar -cf - -T "$D/list" && echo done >&2
fi
exit 0
"#;

const OUTPUT: &str = r#"if [ -f "$D/tmp/NAME" ]; then
    dd bs=65536 count=17 <"$D/tmp/NAME" 2>/dev/null
fi
echo done >&2
exit 0
"#;

/// Lists the folders that a runner has on a target, by name.
pub(crate) fn list(base: &str, runner: &str) -> String {
    let (base, runner) = (set_base(base), quote(runner));
    group(&format!(
        r#"{base}for folder in "$base"/attempts/*; do
    owner=
    {{ read -r owner <"$folder/runner"; }} 2>/dev/null
    [ "$owner" != {runner} ] || echo "attempt ${{folder##*/}}"
done
echo listed
exit 0
"#
    ))
}

fn set_base(base: &str) -> String {
    format!("base={}\ncase $base in /*) ;; *) base=$HOME/$base ;; esac\n", quote(base))
}

/// What starts the job's command, as a file for the target's shell.
pub(crate) fn job(launch: &Launch) -> String {
    let program = launch.command.first().map(String::as_str).unwrap_or_default();
    let words: Vec<_> = launch.command.iter().map(|word| quote(word)).collect();
    let variables: String = (launch.env.iter().filter(|(name, _)| *name != COOKIE))
        .map(|(name, value)| format!("export {name}={}\n", quote(value)))
        .collect();
    let limit = launch
        .resources
        .open_files
        .map_or_else(String::new, |files| format!("ulimit -n {files} || exit 126\n"));
    let (program, words) = (quote(program), words.join(" "));
    let enter = launch
        .workspace
        .as_ref()
        .map_or_else(|| format!("cd \"${COOKIE}/work\" || exit 126\n"), enter_workspace);
    // Whatever ends this shell is a refusal: a command that starts takes its place.
    format!(
        r#"rm -f "${COOKIE}/job"
umask "$1"
exec 3>&2 2>/dev/null
trap 'echo refused >"${COOKIE}/refused"' EXIT
export BATON_OUTPUT="${COOKIE}/tmp/{OUTPUT_NAME}"
{enter}unset PWD OLDPWD SHLVL _
{limit}{variables}case {program} in
    */*)
        [ -e {program} ] || exit 127
        [ -x {program} ] && [ ! -d {program} ] || exit 126
        ;;
    *) command -v {program} >/dev/null || exit 127 ;;
esac
exec {words} 2>&3 3>&-
"#
    )
}

/// Goes to where the workspace is, and no further when that is not below its base: whatever
/// links there are, the folder that was entered is the one that was looked at.
fn enter_workspace(workspace: &Workspace) -> String {
    let (base, path) = (workspace.base().to_string_lossy(), workspace.within().to_string_lossy());
    let shown = quote(&workspace.path().to_string_lossy());
    format!(
        r#"{}cd -P -- "$base" && base=$(pwd -P) && cd -P -- {} || {{
    echo "the workspace "{shown}" cannot be entered; make the folder first" >&3
    exit 126
}}
case $(pwd -P)/ in
    "${{base%/}}"/*) ;;
    *)
        echo "the workspace "{shown}" is refused: a link in it leads out of \`workspaces\`" >&3
        exit 126
        ;;
esac
unset base
"#,
        set_base(&base),
        quote(&format!("./{path}")),
    )
}

/// The first name of a variable that no shell can set.
pub(crate) fn unfit_variable(env: &BTreeMap<String, String>) -> Option<&str> {
    let is_fit = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    env.keys().map(String::as_str).find(|name| !is_fit(name))
}

/// One word of a shell, whatever is in it.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::{prop_assert_eq, proptest};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a shell is what reads it")]
    fn said_by_a_shell(script: &str) -> Vec<u8> {
        Command::new("sh").arg("-c").arg(script).output().unwrap().stdout
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn a_quoted_text_is_what_a_shell_reads(text in "([^\0]|['\"$`\\\\\n!*~;&|<>(){}#])*") {
            let said = said_by_a_shell(&format!("printf %s {}", quote(&text)));
            prop_assert_eq!(said, text.as_bytes());
        }
    }

    #[test]
    fn a_variable_that_no_shell_can_set_is_named() {
        let env = |name: &str| BTreeMap::from([(name.to_owned(), String::new())]);
        for name in ["A", "_a1"] {
            assert_eq!(unfit_variable(&env(name)), None);
        }
        for name in ["", "1A", "A.B", "A-B", "A;echo", "Ä"] {
            assert_eq!(unfit_variable(&env(name)), Some(name));
        }
    }
}
