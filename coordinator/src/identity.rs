//! Which member of which cluster a data folder is. Written before the first entry
//! of its log, and kept for as long as the folder: a node that forgets its votes
//! must not vote again under the same number.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use baton_state::NodeId;
use serde::{Deserialize, Serialize};

use crate::{environment::Environment, errors::REPAIR};

/// What `member.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// What this folder is called, whatever becomes of it.
    pub(crate) instance: String,
    /// None until a cluster has admitted it.
    pub(crate) membership: Option<Membership>,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    instance: String,
    membership: Option<Membership>,
    /// BLAKE3 of the two as compact JSON; an older version has not written it.
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

/// A place in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Membership {
    pub(crate) cluster_id: String,
    pub(crate) node_id: NodeId,
    /// It began the cluster, and did not join one.
    pub(crate) founder: bool,
    /// It has a log, and may have voted.
    pub(crate) started: bool,
}

/// The member that a data folder is of its cluster; none while it belongs to no cluster.
///
/// # Errors
/// When the folder has a `member.json` that cannot be read; it names the file.
pub fn member_of(data_dir: &Path) -> io::Result<Option<u64>> {
    let file = IdentityFile::new(data_dir);
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", file.path().display()))
    };
    let identity = file.read().map_err(named)?;
    Ok(identity.and_then(|identity| identity.membership).map(|member| member.node_id.0))
}

/// Reads and writes `member.json`.
#[derive(Clone, Debug)]
pub(crate) struct IdentityFile {
    dir: PathBuf,
}

impl IdentityFile {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.to_owned() }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("member.json")
    }

    /// The folder's identity; made when it has none.
    pub(crate) fn read_or_make(&self, environment: &Environment) -> io::Result<Identity> {
        if let Some(identity) = self.read()? {
            return Ok(identity);
        }
        let instance = format!("{:032x}", environment.random.bits());
        let identity = Identity { instance, membership: None };
        self.write(&identity)?;
        Ok(identity)
    }

    fn read(&self) -> io::Result<Option<Identity>> {
        match fs::read(self.path()) {
            Ok(bytes) => parse(&bytes).map(Some).map_err(|error| {
                let what = if bytes.is_empty() { "it is empty" } else { "it is damaged" };
                let text = format!("{what} ({error}), and with it who this folder is; {REPAIR}");
                io::Error::new(io::ErrorKind::InvalidData, text)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts an identity in the place of the one before; it is on disk then.
    pub(crate) fn write(&self, identity: &Identity) -> io::Result<()> {
        let partial = self.dir.join("member.json.part");
        let mut file = File::create(&partial)?;
        let Identity { instance, membership } = identity.clone();
        let stored = Stored { instance, membership, blake3: Some(checksum(identity)?) };
        serde_json::to_writer_pretty(&mut file, &stored)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&partial, self.path())?;
        File::open(&self.dir)?.sync_all()
    }
}

fn parse(bytes: &[u8]) -> io::Result<Identity> {
    let Stored { instance, membership, blake3 } = serde_json::from_slice(bytes)?;
    let identity = Identity { instance, membership };
    let is_whole = blake3.is_none_or(|blake3| checksum(&identity).is_ok_and(|own| own == blake3));
    is_whole.then_some(identity).ok_or_else(|| io::Error::other("its checksum does not match"))
}

fn checksum(identity: &Identity) -> io::Result<String> {
    Ok(blake3::hash(&serde_json::to_vec(identity)?).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = IdentityFile::new(dir.path());
        let environment = Environment::system();
        assert_eq!(member_of(dir.path()).unwrap(), None);
        let mut made = file.read_or_make(&environment).unwrap();
        assert_eq!(file.read_or_make(&environment).unwrap(), made);
        assert_eq!(member_of(dir.path()).unwrap(), None, "nobody has admitted it");
        made.membership = Some(Membership {
            cluster_id: "c".to_owned(),
            node_id: NodeId(2),
            founder: false,
            started: true,
        });
        file.write(&made).unwrap();
        assert_eq!(file.read_or_make(&environment).unwrap(), made);
        assert_eq!(member_of(dir.path()).unwrap(), Some(2));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = IdentityFile::new(dir.path());
        let membership = Membership {
            cluster_id: "c0ffee".to_owned(),
            node_id: NodeId(2),
            founder: false,
            started: true,
        };
        let identity = Identity { instance: "i".to_owned(), membership: Some(membership) };
        file.write(&identity).unwrap();
        let whole = fs::read(file.path()).unwrap();
        for (place, bit) in (0..whole.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << bit;
            fs::write(file.path(), &bytes).unwrap();
            // Space between the words may be another one.
            if let Ok(read) = file.read() {
                assert_eq!(read, Some(identity.clone()), "bit {bit} of byte {place}");
            }
        }
        let other = String::from_utf8(whole).unwrap().replace("c0ffee", "c0ffef");
        fs::write(file.path(), other).unwrap();
        let told = member_of(dir.path()).unwrap_err().to_string();
        assert!(told.contains("checksum") && told.contains("join again"), "{told}");
    }

    #[test]
    fn the_file_of_an_older_version_has_no_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let file = IdentityFile::new(dir.path());
        fs::write(file.path(), r#"{"instance":"i","membership":null}"#).unwrap();
        assert_eq!(file.read().unwrap().unwrap().instance, "i");
    }

    #[test]
    fn a_file_that_is_not_understood_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = IdentityFile::new(dir.path());
        fs::write(file.path(), "").unwrap();
        let empty = member_of(dir.path()).unwrap_err().to_string();
        for told in ["/member.json: it is empty", "`baton cluster remove`", "join again"] {
            assert!(empty.contains(told), "{empty}");
        }
        fs::write(file.path(), "{\"instance\":").unwrap();
        let broken = file.read_or_make(&Environment::system()).unwrap_err().to_string();
        assert!(broken.starts_with("it is damaged (EOF"), "{broken}");
        assert_eq!(fs::read(file.path()).unwrap(), b"{\"instance\":");
    }
}
