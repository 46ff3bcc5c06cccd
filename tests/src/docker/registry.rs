//! A registry of images on loopback, with one image, for those who show a password. The
//! engine asks it as it asks any other.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::{Value, json};

use super::{Image, docker, try_docker};

/// Whom it lets in.
pub const USER: &str = "ci";
/// By what.
pub const PASSWORD: &str = "a-password-for-the-registry";
/// Both, as they are sent.
const AUTHORIZATION: &str = "Basic Y2k6YS1wYXNzd29yZC1mb3ItdGhlLXJlZ2lzdHJ5";

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// A registry. What was pulled from it goes from the engine with it.
pub struct Registry {
    address: SocketAddr,
    content: Arc<Content>,
    serving: Option<JoinHandle<()>>,
    /// What is served lies in here.
    _folder: tempfile::TempDir,
}

struct Content {
    manifest: String,
    /// Files by their digests.
    blobs: BTreeMap<String, PathBuf>,
    stops: AtomicBool,
    pulls: AtomicUsize,
}

impl Registry {
    /// One that has `image`, as [`Registry::image`].
    #[must_use]
    pub fn with(image: &Image) -> Self {
        let folder = tempfile::Builder::new().prefix("baton-registry-").tempdir().unwrap();
        let (manifest, blobs) = save(image, folder.path());
        let (stops, pulls) = (AtomicBool::default(), AtomicUsize::default());
        let content = Arc::new(Content { manifest, blobs, stops, pulls });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, serves) = (listener.local_addr().unwrap(), Arc::clone(&content));
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
        let serving = std::thread::Builder::new().name("registry".to_owned()).spawn(serve);
        Self { address, content, serving: Some(serving.unwrap()), _folder: folder }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The name of its image.
    #[must_use]
    pub fn image(&self) -> String {
        format!("{}/team/app:1", self.address)
    }

    /// How often the image was asked for with the right password.
    #[must_use]
    pub fn pulls(&self) -> usize {
        self.content.pulls.load(Ordering::Relaxed)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Nobody may have pulled it.
        let _ = try_docker(&["rmi", &self.image()]);
        self.content.stops.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

impl Content {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut authorization = String::new();
        for line in lines {
            let line = line?;
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    value.clone_into(&mut authorization);
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut words = request.split(' ');
        let with_body = words.next() == Some("GET");
        let path = words.next().unwrap_or_default();
        let file =
            path.strip_prefix("/v2/team/app/blobs/").and_then(|digest| self.blobs.get(digest));
        let (status, kind, body) = match (authorization == AUTHORIZATION, path, file) {
            (false, ..) => ("401 Unauthorized", "application/json", b"{\"errors\":[]}".to_vec()),
            (true, "/v2/", _) => ("200 OK", "application/json", b"{}".to_vec()),
            // By its tag, and then by its digest.
            (true, path, _) if path.starts_with("/v2/team/app/manifests/") => {
                self.pulls.fetch_add(1, Ordering::Relaxed);
                ("200 OK", MANIFEST, self.manifest.clone().into_bytes())
            }
            (true, _, Some(file)) => ("200 OK", "application/octet-stream", std::fs::read(file)?),
            (true, ..) => ("404 Not Found", "application/json", b"{\"errors\":[]}".to_vec()),
        };
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
             WWW-Authenticate: Basic realm=\"tests\"\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )?;
        if with_body { stream.write_all(&body) } else { Ok(()) }
    }
}

/// Has the engine write the image into `folder`; its manifest, and the files it names.
fn save(image: &Image, folder: &Path) -> (String, BTreeMap<String, PathBuf>) {
    let archive = folder.join("image.tar");
    docker(&["save", "--output", archive.to_str().unwrap(), image.name()]);
    let mut tar = std::process::Command::new("tar");
    assert!(tar.arg("-xf").arg(&archive).arg("-C").arg(folder).status().unwrap().success());
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
    };
    let saved = &read("manifest.json")[0];
    let config = saved["Config"].as_str().unwrap();
    // HEX.json, or blobs/sha256/HEX.
    let hex = config.trim_end_matches(".json").rsplit('/').next().unwrap();
    let described = read(config);
    let digests = described["rootfs"]["diff_ids"].as_array().unwrap().iter();
    let layers = saved["Layers"].as_array().unwrap().iter();
    let layers = layers.zip(digests).map(|(file, digest)| {
        (digest.as_str().unwrap().to_owned(), folder.join(file.as_str().unwrap()))
    });
    let mut blobs: BTreeMap<_, _> = layers.collect();
    let part = |kind: &str, digest: &str, file: &Path| {
        let size = std::fs::metadata(file).unwrap().len();
        json!({ "mediaType": kind, "digest": digest, "size": size })
    };
    let layers: Vec<_> = described["rootfs"]["diff_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|digest| digest.as_str().unwrap())
        .map(|digest| part(LAYER, digest, &blobs[digest]))
        .collect();
    let (digest, file) = (format!("sha256:{hex}"), folder.join(config));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": part(CONFIG, &digest, &file),
        "layers": layers,
    });
    blobs.insert(digest, file);
    (manifest.to_string(), blobs)
}
