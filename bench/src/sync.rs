//! Bringing a folder, the first time and again when nothing or a little has changed,
//! beside `rsync -a` over SSH to the same host. Both go through a port that counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use baton_tests::{fleet::Fleet, ssh::Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const SMALL_FILES: usize = 10_000;
const LARGE_FILES: usize = 3;
const LARGE: usize = 100 << 20;

pub(crate) async fn measure() {
    let fleet = Fleet::with_runner(1).await;
    let to_coordinator = Counting::to(&fleet.address()).await;
    let sshd = Server::start(&[]);
    let to_sshd = match &sshd {
        Some(server) if has_rsync() => {
            Some(Counting::to(&format!("127.0.0.1:{}", server.port())).await)
        }
        _ => None,
    };
    let folder = tempfile::tempdir().unwrap();
    println!("{:44} {:>12} {:>9} {:>12} {:>9}", "", "baton", "", "rsync -a", "");
    for (name, tree) in [
        ("10,000 small files", small_files(folder.path())),
        ("300 MB in 3 files", large_files(folder.path())),
    ] {
        let copy = tree.with_added_extension("copy");
        for round in ["first", "again", "after an edit"] {
            if round == "after an edit" {
                edit(&tree);
            }
            let ours = to_coordinator.measured(|address| submit(&fleet, &tree, address)).await;
            let theirs = match (&to_sshd, &sshd) {
                (Some(way), Some(server)) => {
                    let rsync = |address: &str| rsync(&tree, &copy, &server.key(), address);
                    Some(way.measured(rsync).await)
                }
                _ => None,
            };
            line(&format!("{name}, {round}"), ours, theirs);
        }
    }
}

fn has_rsync() -> bool {
    let has = Command::new("rsync").arg("--version").output().is_ok_and(|o| o.status.success());
    if !has {
        eprintln!("SKIPPED: there is no rsync to compare with; apt-get install rsync");
    }
    has
}

/// Bytes on the wire, and seconds.
type Cost = (u64, f64);

fn line(what: &str, ours: Cost, theirs: Option<Cost>) {
    let cost = |(bytes, seconds): Cost| format!("{:>9} KiB {seconds:>7.2} s", bytes / 1024);
    match theirs {
        Some(theirs) => {
            let bytes = ours.0 as f64 / theirs.0 as f64;
            let time = ours.1 / theirs.1;
            println!(
                "{what:44} {} {}  bytes x{bytes:.2}, time x{time:.2}",
                cost(ours),
                cost(theirs)
            );
        }
        None => println!("{what:44} {}", cost(ours)),
    }
}

fn submit(fleet: &Fleet, tree: &Path, address: &str) -> Command {
    let tree = tree.to_str().unwrap();
    let mut command = fleet.command(&["submit", "-q", "--source", tree, "--", "true"]);
    command.env("BATON_ADDR", address);
    command
}

fn rsync(tree: &Path, copy: &Path, key: &Path, address: &str) -> Command {
    let port = address.rsplit(':').next().unwrap();
    let ssh = format!(
        "ssh -p {port} -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
         -o LogLevel=ERROR",
        key.display()
    );
    let mut command = Command::new("rsync");
    command.args(["-a", "-e", &ssh]).arg(format!("{}/", tree.display()));
    command.arg(format!("{}@127.0.0.1:{}/", Server::user(), copy.display()));
    command
}

/// Text that compresses as sources do.
fn words(seed: u64, length: usize) -> Vec<u8> {
    let mut random = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut text = Vec::with_capacity(length + 32);
    let mut byte = [0];
    while text.len() < length {
        random.fill(&mut byte);
        text.extend_from_slice(format!("let value_{} = {};\n", byte[0] % 50, byte[0]).as_bytes());
    }
    text.truncate(length);
    text
}

fn small_files(folder: &Path) -> PathBuf {
    let tree = folder.join("small");
    for number in 0..SMALL_FILES {
        let folder = tree.join(format!("d{}/e{}", number % 20, number % 7));
        fs::create_dir_all(&folder).unwrap();
        let length = 500 + number * 97 % 8_000;
        fs::write(folder.join(format!("f{number}.rs")), words(number as u64, length)).unwrap();
    }
    tree
}

fn large_files(folder: &Path) -> PathBuf {
    let tree = folder.join("large");
    fs::create_dir(&tree).unwrap();
    for number in 0..LARGE_FILES {
        let mut bytes = vec![0; LARGE];
        blake3::Hasher::new().update(&[number as u8]).finalize_xof().fill(&mut bytes);
        fs::write(tree.join(format!("f{number}.bin")), bytes).unwrap();
    }
    tree
}

/// Changes one file: adds some bytes in its middle.
fn edit(tree: &Path) {
    let path = ["d3/e3/f3.rs", "f1.bin"].map(|name| tree.join(name));
    let path = path.iter().find(|path| path.exists()).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes.splice(middle..middle, *b"// edited\n");
    fs::write(path, bytes).unwrap();
}

/// A way to a port of this host that counts the bytes of both directions.
struct Counting {
    address: String,
    bytes: Arc<AtomicU64>,
    _passing: JoinSet<()>,
}

impl Counting {
    async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let bytes = Arc::new(AtomicU64::new(0));
        let mut accepting = JoinSet::new();
        let (count, to) = (Arc::clone(&bytes), server.to_owned());
        accepting.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((caller, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.unwrap();
                let (from_caller, to_caller) = caller.into_split();
                let (from_server, to_server) = server.into_split();
                passing.spawn(pass(from_caller, to_server, Arc::clone(&count)));
                passing.spawn(pass(from_server, to_caller, Arc::clone(&count)));
            }
        });
        Self { address, bytes, _passing: accepting }
    }

    /// What a command costs that is given this address.
    async fn measured(&self, command: impl FnOnce(&str) -> Command) -> Cost {
        let (before, begin) = (self.bytes.load(Ordering::Relaxed), Instant::now());
        let mut command = command(&self.address);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let seconds = begin.elapsed().as_secs_f64();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (self.bytes.load(Ordering::Relaxed) - before, seconds)
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    count: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
