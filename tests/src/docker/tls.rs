//! The engine of this host as one that is reached over TCP with TLS, and only by those who
//! show a certificate.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

use crate::skip;

/// A way to the engine. It ends with this.
pub struct TlsEngine {
    folder: tempfile::TempDir,
    port: u16,
    _accepting: JoinSet<()>,
}

impl TlsEngine {
    /// None, said loudly, without the program that makes certificates.
    pub async fn start() -> Option<Self> {
        let mut asked = Command::new("openssl");
        if asked.arg("version").stdout(Stdio::null()).status().is_err() {
            skip("there is no openssl; install it with: apt-get install openssl");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("baton-tls-").tempdir().unwrap();
        for client in ["known", "stranger"] {
            make_certificates(&folder.path().join(client));
        }
        let acceptor = TlsAcceptor::from(Arc::new(settings(&folder.path().join("known"))));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let mut near = acceptor.accept(near).await?;
                    let mut far = UnixStream::connect("/var/run/docker.sock").await?;
                    copy_bidirectional(&mut near, &mut far).await.map(drop)
                });
            }
        });
        Some(Self { folder, port, _accepting: accepting })
    }

    /// `tcp://127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// A folder with `ca.pem`, `cert.pem` and `key.pem` that it knows.
    #[must_use]
    pub fn known(&self) -> PathBuf {
        self.folder.path().join("known")
    }

    /// The like of somebody else.
    #[must_use]
    pub fn stranger(&self) -> PathBuf {
        self.folder.path().join("stranger")
    }
}

fn settings(folder: &Path) -> ServerConfig {
    let certificate = |name: &str| CertificateDer::from_pem_file(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server-key.pem")).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate("server.pem")], key)
        .unwrap()
}

/// An authority, and a server and a client that it has signed.
fn make_certificates(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let openssl = |args: &str| {
        let mut openssl = Command::new("openssl");
        let made = openssl.args(args.split(' ')).current_dir(folder).stdin(Stdio::null());
        let made = made.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("{new} -subj /CN=authority -keyout ca-key.pem -out ca.pem"));
    let signed = format!("{new} -CA ca.pem -CAkey ca-key.pem -addext basicConstraints=CA:FALSE");
    for (name, key, usage) in [
        ("server", "server-key", "subjectAltName=IP:127.0.0.1"),
        ("cert", "key", "extendedKeyUsage=clientAuth"),
    ] {
        openssl(&format!(
            "{signed} -subj /CN={name} -addext {usage} -keyout {key}.pem -out {name}.pem"
        ));
    }
}
