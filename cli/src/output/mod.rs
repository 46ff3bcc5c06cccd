//! What commands write to standard output: JSON for programs or text for
//! people. Messages, progress and errors never go through here.

pub(crate) mod result;
pub(crate) mod result_file;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod views;

use std::{
    fs::{File, Metadata},
    io::{self, IsTerminal as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::environment::Environment;

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; may change.
    #[default]
    Text,
    /// One JSON document with stable field names
    Json,
}

/// The options of every command.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// How to write data
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(crate) format: Format,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// The reader of standard output, or error, has gone: nobody wants the rest.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has gone")]
pub(crate) struct Closed;

/// Writes `bytes` and passes them on at once.
///
/// # Errors
/// [`Closed`] when the reader has gone.
pub(crate) fn write(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        result => result.context("cannot write to standard output"),
    }
}

/// Writes `bytes` of a job to standard error.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_stderr(bytes: &[u8]) -> anyhow::Result<()> {
    match io::stderr().write_all(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        result => result.context("cannot write to standard error"),
    }
}

/// Writes `view` as one JSON document with a line end.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_json(view: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(view)?;
    text.push(b'\n');
    write(&text)
}

/// Writes `view` as one line of JSON.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_json_line(view: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(view)?;
    line.push(b'\n');
    write(&line)
}

/// How many columns the terminal at standard output has; none when it is no
/// terminal.
fn columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call fills in the structure that it gets.
    let asked = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0 && size.ws_col > 0).then(|| size.ws_col.into())
}

/// Standard output and standard error lead to one place, or to two of one kind, as
/// a CI system sets them up that reads both. A file or nothing for one of them is
/// somebody's wish to have the two apart.
pub(crate) fn streams_lead_alike() -> bool {
    let metadata = |stream: io::Result<OwnedFd>| File::from(stream?).metadata();
    let stdout = metadata(io::stdout().as_fd().try_clone_to_owned());
    let stderr = metadata(io::stderr().as_fd().try_clone_to_owned());
    match (stdout, stderr) {
        (Ok(stdout), Ok(stderr)) => lead_alike(&stdout, &stderr),
        _ => false,
    }
}

fn lead_alike(stdout: &Metadata, stderr: &Metadata) -> bool {
    let one = (stdout.dev(), stdout.ino()) == (stderr.dev(), stderr.ino());
    let is_read = |end: &Metadata| end.file_type().is_fifo() || end.file_type().is_socket();
    one || (is_read(stdout) && is_read(stderr))
}

/// How tables are drawn on standard output.
pub(crate) fn style(environment: &Environment) -> text::Style {
    text::Style { coloured: is_coloured(environment), columns: columns() }
}

fn is_coloured(environment: &Environment) -> bool {
    io::stdout().is_terminal()
        && environment.get("NO_COLOR").is_none()
        && environment.get("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_or_nothing_for_one_stream_keeps_the_two_apart() {
        let metadata = |file: OwnedFd| File::from(file).metadata().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = |name| metadata(File::create(folder.path().join(name)).unwrap().into());
        let nothing = || metadata(File::open("/dev/null").unwrap().into());
        let pipe = || metadata(io::pipe().unwrap().1.into());
        let socket = || metadata(std::os::unix::net::UnixStream::pair().unwrap().0.into());
        assert!(lead_alike(&pipe(), &pipe()) && lead_alike(&socket(), &pipe()));
        let one = file("one");
        assert!(lead_alike(&one, &one));
        for (stdout, stderr) in [
            (one, file("other")),
            (file("one"), pipe()),
            (pipe(), file("one")),
            (pipe(), nothing()),
        ] {
            assert!(!lead_alike(&stdout, &stderr), "{stdout:?} {stderr:?}");
        }
    }
}
