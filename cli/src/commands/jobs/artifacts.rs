//! `baton jobs artifacts`: what a job left, as a list or as files.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use baton_client::{
    ClientError, Connection, fetch_artifacts,
    tree::{Chunk, Extraction, Kind, Tree, TreeLimits},
};
use baton_proto::{
    globs::Patterns,
    v1::{ArtifactTree, ArtifactsRequest, FetchArtifactsRequest},
};
use blake3::Hash;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use crate::{
    asking::Reached,
    connect::ClientArgs,
    exit::UsageError,
    output::{
        self, Format, text,
        views::{ArtifactView, ArtifactsListView},
    },
};

const EXAMPLE: &str = "\
Examples:
  baton jobs artifacts JOB
  baton jobs artifacts JOB 'out/**/*.xml' --download reports";

/// Chunks that are fetched at once.
const AT_ONCE: usize = 8;
/// Where chunks are kept until their files are made, so that a download that was broken off
/// goes on. With a number behind it where an artifact has that name.
const CHUNKS: &str = ".baton-download";
const FETCHING: &str = "fetching {bar:24} {bytes}/{total_bytes} {bytes_per_sec}";

/// The arguments of `jobs artifacts`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct ArtifactsArgs {
    /// Id of the job
    #[arg(value_name = "JOB")]
    job: String,
    /// Only these, by patterns as `--artifact` has them
    #[arg(value_name = "GLOB")]
    globs: Vec<String>,
    /// Put them into this folder; what is there already and is the same stays, and anything
    /// else in their place is an error
    #[arg(long, value_name = "DIR")]
    download: Option<PathBuf>,
    /// Which attempt's [default: the last that has artifacts]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: ArtifactsArgs, context: &Context) -> anyhow::Result<()> {
    let patterns =
        Patterns::new(&args.globs).map_err(|error| UsageError(format!("GLOB: {error}")))?;
    let reached = context.connect(&args.client).await?;
    let asked = FetchArtifactsRequest {
        job_id: args.job.clone(),
        attempt: args.attempt.unwrap_or_default(),
        ..FetchArtifactsRequest::default()
    };
    let tree = manifest(&reached, &asked).await?;
    let wanted = |path: &[u8]| patterns.take(Path::new(OsStr::from_bytes(path)));
    let extraction = Extraction::new(tree, wanted);
    if let Some(folder) = &args.download {
        let made = download(&reached, &asked, &extraction, folder, context).await?;
        let all = text::counted(extraction.entries().count() as u64, "artifact");
        let told = format!("{all} in {}, {made} new", folder.display());
        context.messages.note(&told);
        if context.format == Format::Text {
            return Ok(());
        }
    }
    let artifacts = extraction.entries().map(|entry| {
        let (size, blake3, target) = match &entry.kind {
            Kind::File { size, digest, .. } => (*size, Some(digest.to_hex().to_string()), None),
            Kind::Link { target } => (0, None, Some(String::from_utf8_lossy(target).into_owned())),
            Kind::Folder => (0, None, None),
        };
        let end = if matches!(entry.kind, Kind::Folder) { "/" } else { "" };
        ArtifactView {
            path: format!("{}{end}", String::from_utf8_lossy(&entry.path)),
            size,
            blake3,
            target,
        }
    });
    let view = ArtifactsListView { job_id: args.job, artifacts: artifacts.collect() };
    match context.format {
        Format::Json => output::write_json(&view),
        Format::Text => output::write(text::artifacts(&view.artifacts).as_bytes()),
    }
}

/// What the job left.
async fn manifest(reached: &Reached, asked: &FetchArtifactsRequest) -> anyhow::Result<Tree> {
    let request = ArtifactsRequest { job_id: asked.job_id.clone(), attempt: asked.attempt };
    let find = async |to: &Connection| {
        let mut answers = to.jobs().artifacts(request.clone()).await?.into_inner();
        let first = answers.message().await?.and_then(|answer| answer.tree);
        first.ok_or_else(|| ClientError::missing("tree"))
    };
    let ArtifactTree { digest, size, content, .. } = reached.ask(find).await?;
    let digest = Hash::from_hex(digest).context("the digest of the artifacts is none")?;
    let (connection, patience) = (&reached.connection, reached.cluster.patience());
    let manifest = fetch_artifacts(connection, asked, digest, size, patience).await?;
    let limits = TreeLimits { content, ..TreeLimits::default() };
    Ok(Tree::decode(&manifest, &limits)?)
}

/// Makes the files in `folder`; how many were not there.
async fn download(
    reached: &Reached,
    asked: &FetchArtifactsRequest,
    extraction: &Extraction,
    folder: &Path,
    context: &Context,
) -> anyhow::Result<u64> {
    let chunks = folder.join(free_name(extraction.tree()));
    let failed = || format!("cannot write to {}", folder.display());
    fs::create_dir_all(&chunks).with_context(failed)?;
    let lacking: Vec<Chunk> =
        extraction.chunks().into_iter().filter(|chunk| !is_there(&chunks, chunk)).collect();
    let bytes = lacking.iter().map(|chunk| u64::from(chunk.length)).sum();
    let bar = bar(bytes, context);
    let fetching = lacking.into_iter().map(|chunk| {
        let (chunks, bar) = (&chunks, &bar);
        async move {
            let name = chunk.digest.to_hex().to_string();
            let request = FetchArtifactsRequest { chunk: name.clone(), ..asked.clone() };
            let (to, patience) = (&reached.connection, reached.cluster.patience());
            let size = chunk.length.into();
            let bytes = fetch_artifacts(to, &request, chunk.digest, size, patience).await?;
            let draft = chunks.join(format!("{name}.new"));
            fs::write(&draft, &bytes).and_then(|()| fs::rename(&draft, chunks.join(&name)))?;
            bar.inc(size);
            anyhow::Ok(())
        }
    });
    stream::iter(fetching).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    bar.finish_and_clear();
    let mut read = |chunk: &Chunk| fs::read(chunks.join(chunk.digest.to_hex().as_str()));
    let made = extraction.extract(folder, &mut read)?;
    remove_chunks(&chunks).with_context(failed)?;
    Ok(made)
}

/// A name for the folder of chunks that nothing at the top of the tree has.
fn free_name(tree: &Tree) -> String {
    let top = |path: &[u8]| path.split(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
    let taken: HashSet<_> = tree.entries().iter().filter_map(|entry| top(&entry.path)).collect();
    let (mut name, mut number) = (CHUNKS.to_owned(), 0);
    while taken.contains(name.as_bytes()) {
        number += 1;
        name = format!("{CHUNKS}-{number}");
    }
    name
}

/// Removes the folder of chunks, unless somebody has put something else there.
fn remove_chunks(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default();
        if Hash::from_hex(name.as_bytes()).is_ok() {
            fs::remove_file(&path)?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

/// The chunk came before.
fn is_there(chunks: &Path, chunk: &Chunk) -> bool {
    let path = chunks.join(chunk.digest.to_hex().as_str());
    // Another one in its place is fetched anew.
    fs::read(&path).is_ok_and(|bytes| blake3::hash(&bytes) == chunk.digest)
}

fn bar(bytes: u64, context: &Context) -> ProgressBar {
    if !context.messages.is_live() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    match ProgressStyle::with_template(FETCHING) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use baton_client::tree::{self, TreeContent as _};

    use super::*;

    #[test]
    fn the_bar_can_be_drawn() {
        assert!(ProgressStyle::with_template(FETCHING).is_ok());
    }

    #[test]
    fn chunks_are_kept_where_no_artifact_is_and_what_is_none_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(CHUNKS)).unwrap();
        fs::write(folder.path().join(CHUNKS).join("f"), "text").unwrap();
        let built = tree::build(folder.path(), &TreeLimits::default(), &|_| {}, &|| false);
        assert_eq!(free_name(built.unwrap().tree()), ".baton-download-1");
        let chunks = folder.path().join(CHUNKS);
        fs::write(chunks.join(blake3::hash(b"x").to_hex().as_str()), "x").unwrap();
        fs::write(chunks.join(format!("{}.new", blake3::hash(b"y").to_hex())), "").unwrap();
        remove_chunks(&chunks).unwrap();
        assert_eq!(fs::read_dir(&chunks).unwrap().count(), 1);
        fs::remove_file(chunks.join("f")).unwrap();
        remove_chunks(&chunks).unwrap();
        assert!(!chunks.exists());
    }

    #[test]
    fn a_chunk_that_came_before_is_there_unless_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let chunk = Chunk { digest: blake3::hash(b"x"), length: 1 };
        assert!(!is_there(folder.path(), &chunk));
        let path = folder.path().join(chunk.digest.to_hex().as_str());
        fs::write(&path, "y").unwrap();
        assert!(!is_there(folder.path(), &chunk));
        fs::write(&path, "x").unwrap();
        assert!(is_there(folder.path(), &chunk));
    }
}
