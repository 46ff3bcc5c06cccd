//! Git servers on loopback: the real `git http-backend` behind a small HTTP server that
//! can ask for a password, the real `git daemon`, and the real sshd.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{fleet::kill, port};

/// Who may read what is private.
pub const USER: &str = "ci";
/// And by what.
pub const PASSWORD: &str = "token-that-nobody-else-sees";
/// Both, as they are sent.
const AUTHORIZATION: &str = "Basic Y2k6dG9rZW4tdGhhdC1ub2JvZHktZWxzZS1zZWVz";

/// What an HTTP server does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// It wants [`USER`] and [`PASSWORD`].
    pub is_private: bool,
    /// It speaks only the oldest protocol, and so gives no commit that has no name.
    pub is_old: bool,
}

/// Repositories by HTTP.
pub struct GitServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

struct Shared {
    folder: PathBuf,
    manner: Manner,
    stops: AtomicBool,
    shown: AtomicUsize,
    leaks: Mutex<Vec<String>>,
}

impl GitServer {
    /// Serves the repositories in `folder`.
    #[must_use]
    pub fn start(folder: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            manner,
            stops: AtomicBool::default(),
            shown: AtomicUsize::default(),
            leaks: Mutex::default(),
        });
        let (address, serves) = (listener.local_addr().unwrap(), Arc::clone(&shared));
        let serve = move || {
            std::thread::scope(|scope| {
                for connection in listener.incoming() {
                    if serves.stops.load(Ordering::Relaxed) {
                        return;
                    }
                    // A caller that went away is no fault of the server's.
                    scope.spawn(|| connection.and_then(|stream| serves.serve(&stream)));
                }
            });
        };
        let serving = std::thread::Builder::new().name("git-server".to_owned()).spawn(serve);
        Self { address, shared, serving: Some(serving.unwrap()) }
    }

    /// `http://127.0.0.1:PORT/NAME`.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// How often somebody showed a password.
    #[must_use]
    pub fn shown(&self) -> usize {
        self.shared.shown.load(Ordering::Relaxed)
    }

    /// Where the password was seen while it was in use: in arguments or environments of
    /// processes.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        self.shared.leaks.lock().unwrap().clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let named = |line: &&String| {
                let (found, _) = line.split_once(':').unwrap_or_default();
                found.eq_ignore_ascii_case(name)
            };
            let line = lines.iter().find(named)?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let authorization = header("authorization");
        if authorization.is_some() {
            self.shown.fetch_add(1, Ordering::Relaxed);
            self.leaks.lock().unwrap().extend(look_for(PASSWORD));
        }
        let mut stream = stream;
        if self.manner.is_private && authorization.as_deref() != Some(AUTHORIZATION) {
            let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\n\
                           Content-Length: 0\r\nConnection: close\r\n\r\n";
            return stream.write_all(refusal.as_bytes());
        }
        let length = header("content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let mut request = lines.first().map(String::as_str).unwrap_or_default().split(' ');
        let (method, target) = (request.next().unwrap_or("GET"), request.next().unwrap_or("/"));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut backend = Command::new("git");
        backend
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.folder)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .env("REQUEST_METHOD", method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
            .env("CONTENT_LENGTH", body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(version) = header("git-protocol").filter(|_| !self.manner.is_old) {
            backend.env("GIT_PROTOCOL", version);
        }
        let mut backend = backend.spawn()?;
        let mut input = backend.stdin.take().unwrap();
        let written = input.write_all(&body);
        drop(input);
        let answer = backend.wait_with_output()?.stdout;
        written?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.lines().find_map(|line| line.strip_prefix("Status: "));
        let status = status.unwrap_or("200 OK");
        write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nConnection: close\r\n\r\n")?;
        stream.write_all(&answer[end + 4..])
    }
}

/// Processes in whose arguments or environment `secret` is.
fn look_for(secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            if bytes.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                found.push(format!("{file}: {}", String::from_utf8_lossy(&bytes)));
            }
        }
    }
    found
}

/// Repositories by git's own protocol.
pub struct GitDaemon {
    port: u16,
    process: Option<Child>,
}

impl GitDaemon {
    /// Serves the repositories in `folder`.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let programs = Command::new("git").arg("--exec-path").output().unwrap().stdout;
        let programs = String::from_utf8(programs).unwrap();
        let port = port::free();
        // By its own name: it ends with the process that was started, then.
        let process = Command::new(Path::new(programs.trim()).join("git-daemon"))
            .args(["--export-all", "--listen=127.0.0.1", "--reuseaddr"])
            .args([format!("--port={port}"), format!("--base-path={}", folder.display())])
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self { port, process: Some(process.unwrap()) }
    }

    /// `git://127.0.0.1:PORT/NAME`.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// Whether it answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        kill(self.process.take());
    }
}

/// Repositories by SSH, on a server of this test's own.
pub struct GitSshd {
    port: u16,
    folder: PathBuf,
    process: Option<Child>,
}

impl GitSshd {
    /// Starts a server whose keys and a user's are in `folder`. None where this host has no
    /// sshd, or none that can be started.
    #[must_use]
    pub fn start(folder: &Path) -> Option<Self> {
        for key in ["server", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key))
                .status();
            made.ok().filter(ExitStatus::success)?;
        }
        let port = port::free();
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n",
            at("server"),
            at("user.pub")
        );
        fs::write(folder.join("config"), config).unwrap();
        let mut process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("config")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { port, folder: folder.to_owned(), process: Some(process) })
    }

    /// `ssh://USER@127.0.0.1:PORT/PATH`.
    #[must_use]
    pub fn url(&self, path: &Path) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
        format!("ssh://{user}@127.0.0.1:{}{}", self.port, path.display())
    }

    /// The file with the user's key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.join("user")
    }

    /// Has `file` say that the server has the key of this name: `server` is right.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn make_known(&self, file: &Path, name: &str) {
        let key = fs::read_to_string(self.folder.join(name).with_extension("pub")).unwrap();
        fs::write(file, format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }
}

impl Drop for GitSshd {
    fn drop(&mut self) {
        kill(self.process.take());
    }
}

/// Runs git in `folder`, and gives what it says.
///
/// # Panics
/// When it fails.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "protocol.file.allow=always", "-c", "user.name=n", "-c", "user.email=e"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a repository of what is in `folder`, and gives its commit.
///
/// # Panics
/// When git fails.
pub fn make_repository(folder: &Path) -> String {
    git(folder, &["init", "-q", "-b", "main"]);
    commit(folder)
}

/// Commits all that is in `folder`.
///
/// # Panics
/// When git fails.
pub fn commit(folder: &Path) -> String {
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", "all of it"]);
    git(folder, &["rev-parse", "HEAD"])
}
