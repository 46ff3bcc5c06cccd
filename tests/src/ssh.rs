//! An SSH server of the test's own on the loopback address, with keys of its own, and a
//! way to it that can be cut.

use std::{
    fs::{self, File},
    io,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;
use tokio::{io::copy_bidirectional, net::TcpListener, task::JoinSet};

use crate::{port, skip, wait};

const SSHD: &str = "/usr/sbin/sshd";

/// A server that lets this process's user in with [`Server::key`].
pub struct Server {
    folder: TempDir,
    port: u16,
    process: Mutex<Option<Child>>,
}

impl Server {
    /// One with further lines in its settings. None, said loudly, where there is no sshd.
    #[must_use]
    pub fn start(settings: &[String]) -> Option<Self> {
        if !Path::new(SSHD).exists() {
            skip(&format!("there is no {SSHD}; install it with: apt-get install openssh-server"));
            return None;
        }
        if geteuid().is_root() {
            // Without it, root's does not start.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let folder = tempfile::Builder::new().prefix("baton-sshd-").tempdir().unwrap();
        for name in ["host", "user", "stranger"] {
            make_key(&folder.path().join(name), "ed25519", "");
        }
        let user = folder.path().join("user.pub");
        fs::copy(user, folder.path().join("authorized_keys")).unwrap();
        let server = Self { folder, port: port::free(), process: Mutex::default() };
        let at = |name: &str| server.path(name).display().to_string();
        let mut lines = vec![
            format!("ListenAddress 127.0.0.1:{}", server.port),
            format!("HostKey {}", at("host")),
            format!("AuthorizedKeysFile {}", at("authorized_keys")),
            "PidFile none".to_owned(),
            "StrictModes no".to_owned(),
            "UsePAM no".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "KbdInteractiveAuthentication no".to_owned(),
            "PermitRootLogin prohibit-password".to_owned(),
            "MaxStartups 100".to_owned(),
            "MaxSessions 100".to_owned(),
        ];
        lines.extend_from_slice(settings);
        fs::write(server.path("sshd_config"), lines.join("\n") + "\n").unwrap();
        fs::write(server.path("known_hosts"), server.known_hosts_line("host")).unwrap();
        server.start_again();
        Some(server)
    }

    /// Starts it after [`Server::stop`].
    pub fn start_again(&self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let process = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.process.lock().unwrap() = Some(process);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < wait::LIMIT, "{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it and its sessions, but not what they started.
    pub fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let sessions = self.sessions_of(process.id());
            process.kill().unwrap();
            process.wait().unwrap();
            kill_all(&sessions);
        }
    }

    /// Kills its sessions, but not what they started.
    pub fn kill_sessions(&self) {
        let listener = self.process.lock().unwrap().as_ref().unwrap().id();
        kill_all(&self.sessions_of(listener));
    }

    fn sessions_of(&self, listener: u32) -> Vec<i32> {
        let is_sshd = |pid: &i32| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(SSHD))
        };
        let mut sessions = vec![listener.cast_signed()];
        let mut next = 0;
        while let Some(parent) = sessions.get(next).copied() {
            sessions.extend(children(parent).into_iter().filter(is_sshd));
            next += 1;
        }
        sessions.split_off(1)
    }

    /// `ssh` with a command for it, as [`Server::user`].
    #[must_use]
    pub fn ssh(&self, command: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}", self.known_hosts().display()))
            .arg("-i")
            .arg(self.key())
            .args(["-p", &self.port.to_string(), &format!("{}@127.0.0.1", Self::user())])
            .args(command);
        ssh
    }

    /// The port that it listens at.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user whom it lets in.
    #[must_use]
    pub fn user() -> String {
        User::from_uid(geteuid()).unwrap().unwrap().name
    }

    /// A private key with which it lets in.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("user")
    }

    /// A private key with which it does not.
    #[must_use]
    pub fn strange_key(&self) -> PathBuf {
        self.path("stranger")
    }

    /// A file of known hosts with its own key.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    /// The line for a file of known hosts that gives it the public key `name`.
    #[must_use]
    pub fn known_hosts_line(&self, name: &str) -> String {
        let key = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// Adds a key of the given type with which it lets in.
    #[must_use]
    pub fn let_in(&self, kind: &str, passphrase: &str) -> PathBuf {
        let key = self.path(&format!("user-{kind}-{}", passphrase.len()));
        make_key(&key, kind, passphrase);
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let authorized = self.path("authorized_keys");
        let known = fs::read_to_string(&authorized).unwrap();
        fs::write(authorized, known + &public).unwrap();
        key
    }

    /// A file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What of this machine has to do with `folder`, for people: its processes by what
    /// they were told, where they are and what they have open. The test's own are none.
    #[must_use]
    pub fn left(folder: &Path) -> String {
        let this = std::process::id().cast_signed();
        let folder = folder.to_str().unwrap();
        let mut left: Vec<String> = Vec::new();
        for pid in numbers().into_iter().filter(|pid| *pid != this) {
            let proc = format!("/proc/{pid}");
            let mut links: Vec<PathBuf> = vec![format!("{proc}/cwd").into()];
            if let Ok(files) = fs::read_dir(format!("{proc}/fd")) {
                links.extend(files.flatten().map(|file| file.path()));
            }
            let open = |link: &PathBuf| {
                fs::read_link(link).is_ok_and(|path| path.to_string_lossy().starts_with(folder))
            };
            let environment = fs::read(format!("{proc}/environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            let told = environment.contains(&format!("_DIR={folder}"));
            if told || links.iter().any(open) {
                let line = fs::read(format!("{proc}/cmdline")).unwrap_or_default();
                left.push(format!("{pid}: {}", String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        left.join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn make_key(path: &Path, kind: &str, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
}

fn numbers() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn children(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    numbers().into_iter().filter(is_child).collect()
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

/// A way to a server that can be cut and closed.
pub struct Way {
    port: u16,
    connections: Arc<Mutex<Option<JoinSet<io::Result<()>>>>>,
    _accepting: JoinSet<()>,
}

impl Way {
    /// The way to `port`, open.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Some(JoinSet::new())));
        let mut accepting = JoinSet::new();
        let all = Arc::clone(&connections);
        accepting.spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                if let Some(connections) = &mut *all.lock().unwrap() {
                    connections.spawn(async move {
                        let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                        copy_bidirectional(&mut near, &mut far).await.map(drop)
                    });
                }
            }
        });
        Self { port: own_port, connections, _accepting: accepting }
    }

    /// The port at its near end.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection. New ones come through.
    pub fn cut(&self) {
        *self.connections.lock().unwrap() = Some(JoinSet::new());
    }

    /// Cuts every connection and lets none through any more.
    pub fn close(&self) {
        *self.connections.lock().unwrap() = None;
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.cut();
    }
}
