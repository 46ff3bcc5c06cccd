//! A way to a server that some processes can be kept from, while others pass.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
};

use tokio::{
    io::copy_bidirectional,
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Leads to a port of this host. It ends with this.
pub struct Gate {
    port: u16,
    kept_out: watch::Sender<Vec<u32>>,
    accepting: JoinHandle<()>,
}

impl Gate {
    /// Open for everybody.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let kept_out = watch::Sender::default();
        let follow: watch::Receiver<Vec<u32>> = kept_out.subscribe();
        let accepting = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((caller, from)) = listener.accept().await {
                passing.spawn(pass(caller, from, at.port(), port, follow.clone()));
            }
        });
        Self { port: at.port(), kept_out, accepting }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Keeps these processes out, those that are inside too, and lets all others pass.
    pub fn keep_out(&self, processes: Vec<u32>) {
        self.kept_out.send_replace(processes);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(
    mut caller: TcpStream,
    from: SocketAddr,
    at: u16,
    to: u16,
    mut kept_out: watch::Receiver<Vec<u32>>,
) {
    let Some(socket) = socket_of(from.port(), at) else { return };
    tokio::select! {
        biased;
        _ = kept_out.wait_for(|processes| processes.iter().any(|it| has(*it, &socket))) => {}
        _ = async {
            let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
            copy_bidirectional(&mut caller, &mut server).await
        } => {}
    }
}

/// What the file is called that a process has open for a connection of this host.
fn socket_of(from: u16, to: u16) -> Option<PathBuf> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = |field: Option<&str>, port: u16| {
        field.is_some_and(|field| field.ends_with(&format!(":{port:04X}")))
    };
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let both = ends(fields.next(), from) && ends(fields.next(), to);
        let inode = fields.nth(6).filter(|_| both)?;
        Some(PathBuf::from(format!("socket:[{inode}]")))
    })
}

fn has(process: u32, socket: &PathBuf) -> bool {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file == *socket)
}
