//! `baton logs`: the exact bytes of a job's output.

use baton_client::{LogBegin, LogEvent, LogOptions, LogUntil, read_log};
use baton_proto::v1::{LogPiece, LogStream};
use clap::Args;
use futures::StreamExt as _;

use super::{Context, jobs::get, run::Streams};
use crate::{
    connect::ClientArgs,
    cursor::{Cursor, Target},
    output::{self, Format, views},
};

const EXAMPLE: &str = "\
Examples:
  baton logs JOB                              both streams, each on its own
  baton logs JOB --stream stdout > out.bin    exactly the bytes the job wrote
  baton logs JOB --stream stderr 2> err.bin   the same of its standard error
  baton logs JOB -f --timestamps              go on until the job ends

What came is compared with the checksums in the job's record, as far as it was asked
for: output that is damaged ends with an error and exit code 125.

With -o json each piece is one line of JSON: stream, time, and its text, or its
bytes as numbers when they are not UTF-8.";

/// The arguments of `logs`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct LogsArgs {
    /// Id of the job
    #[arg(value_name = "JOB")]
    job: String,
    /// Go on as the output grows, until the job ends (with --attempt: the attempt)
    #[arg(short, long)]
    follow: bool,
    /// Leave out so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
    /// Which attempt [default: the newest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Which of the job's streams, each on the stream of the same name here: `stderr` goes
    /// to standard error, so say 2>FILE or 2>&1 to have it elsewhere
    #[arg(long, value_enum, value_name = "STREAM", default_value = "both")]
    stream: Streams,
    /// Put the time in front of each line
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: LogsArgs, context: &Context) -> anyhow::Result<u8> {
    let reached = context.connect(&args.client).await?;
    // Whoever only reads waits no longer than for this until there is something to go on with.
    get(&reached, &args.job).await?;
    let options = LogOptions {
        job_id: args.job,
        attempt: args.attempt.unwrap_or_default(),
        stream: args.stream.into(),
        begin: LogBegin::Offset(args.offset),
        until: match (args.follow, args.attempt) {
            (false, _) => LogUntil::Now,
            (true, Some(_)) => LogUntil::AttemptEnd,
            (true, None) => LogUntil::JobEnd,
        },
    };
    let mut events = read_log(reached.connection, options, reached.cluster.patience());
    let stamps = args.timestamps.then(Stamps::default);
    let mut writer = Writer { context, stamps, cursor: Cursor::new() };
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => writer.event(event)?,
            Err(error) => {
                writer.cursor.start_line();
                return Err(error.into());
            }
        }
    }
    Ok(0)
}

struct Writer<'a> {
    context: &'a Context,
    stamps: Option<Stamps>,
    cursor: Cursor,
}

/// Whether the next byte of each stream starts a line.
#[derive(Default)]
struct Stamps {
    stdout_mid_line: bool,
    stderr_mid_line: bool,
}

impl Writer<'_> {
    fn event(&mut self, event: LogEvent) -> anyhow::Result<()> {
        match event {
            LogEvent::Piece(piece) => return self.piece(&piece),
            LogEvent::Attempt { number, .. } if number > 1 => {
                self.note(&format!("output of attempt {number} follows"));
            }
            LogEvent::End { attempt, end: None } => {
                self.cursor.start_line();
                self.context.messages.error(&format!(
                    "the output of attempt {attempt} is not whole: its end did not arrive"
                ));
            }
            LogEvent::Reconnecting { cause } => {
                self.note(&format!("the connection broke ({cause}); reconnecting"));
            }
            LogEvent::Reconnected => self.note("connected again"),
            LogEvent::Attempt { .. } | LogEvent::End { .. } => {}
        }
        Ok(())
    }

    fn note(&mut self, text: &str) {
        if !self.context.messages.is_quiet() {
            self.cursor.start_line();
            self.context.messages.note(text);
        }
    }

    fn piece(&mut self, piece: &LogPiece) -> anyhow::Result<()> {
        if self.context.format == Format::Json {
            return output::write_json_line(&views::LogPieceView::from(piece));
        }
        if piece.stream() == LogStream::Note {
            self.note(&String::from_utf8_lossy(&piece.data));
            return Ok(());
        }
        let is_stderr = piece.stream() == LogStream::Stderr;
        let stamped = self.stamps.as_mut().map(|stamps| {
            let mid_line =
                if is_stderr { &mut stamps.stderr_mid_line } else { &mut stamps.stdout_mid_line };
            let time = piece.time.as_ref().and_then(views::time);
            let stamp = time.map(|time| format!("{time:.6} ")).unwrap_or_default();
            stamped(&piece.data, stamp.as_bytes(), mid_line)
        });
        let bytes = stamped.as_deref().unwrap_or(&piece.data);
        let target = if is_stderr { Target::Stderr } else { Target::Stdout };
        self.cursor.wrote(target, bytes);
        match target {
            Target::Stdout => output::write(bytes),
            Target::Stderr => output::write_stderr(bytes),
        }
    }
}

/// `data` with `stamp` in front of each line that starts in it.
fn stamped(data: &[u8], stamp: &[u8], mid_line: &mut bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(data.len() + stamp.len());
    for line in data.split_inclusive(|&byte| byte == b'\n') {
        if !*mid_line {
            text.extend_from_slice(stamp);
        }
        text.extend_from_slice(line);
        *mid_line = !line.ends_with(b"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_gets_one_stamp_also_when_it_comes_in_pieces() {
        let mut mid_line = false;
        assert_eq!(stamped(b"a\nb", b"T ", &mut mid_line), b"T a\nT b");
        assert_eq!(stamped(b"c\n", b"U ", &mut mid_line), b"c\n");
        assert_eq!(stamped(b"d", b"V ", &mut mid_line), b"V d");
        assert_eq!(stamped(b"", b"W ", &mut mid_line), b"");
    }
}
