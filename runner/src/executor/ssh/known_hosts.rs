//! Whether a host is the one it should be, by a file of known hosts as OpenSSH keeps it.
//! Only reads.

use std::{fs, path::Path};

use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::{
    Algorithm, HashAlg, PublicKey,
    ssh_key::known_hosts::{Entry, HostPatterns, Marker},
};
use sha1::Sha1;

/// What the file says of one host.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// As people and the file name it.
    host: String,
    file: String,
    entries: Vec<Line>,
    /// Lines that could not be read, and may be about this host.
    unread: Vec<usize>,
}

/// An entry of the file that is about the host.
#[derive(Clone, Debug)]
struct Line {
    number: usize,
    revoked: bool,
    key: PublicKey,
}

impl Known {
    /// Reads what `file` says of the server at `host` and `port`.
    ///
    /// # Errors
    /// For people: the file cannot be read.
    pub(crate) fn read(file: &Path, host: &str, port: u16) -> Result<Self, String> {
        let text = fs::read_to_string(file)
            .map_err(|error| format!("cannot read the known hosts {}: {error}", file.display()))?;
        Ok(Self::parse(&text, &file.display().to_string(), host, port))
    }

    fn parse(text: &str, file: &str, host: &str, port: u16) -> Self {
        // OpenSSH looks a name up in small letters.
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        let mut known =
            Self { host: name, file: file.to_owned(), entries: Vec::new(), unread: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_whitespace().collect::<Vec<_>>().join(" ").parse::<Entry>() {
                Ok(entry) if !matches(entry.host_patterns(), &known.host) => {}
                // Certificates of hosts are not asked for.
                Ok(entry) if entry.marker() == Some(&Marker::CertAuthority) => {}
                Ok(entry) => known.entries.push(Line {
                    number: index + 1,
                    revoked: entry.marker() == Some(&Marker::Revoked),
                    key: entry.public_key().clone(),
                }),
                Err(_) => known.unread.push(index + 1),
            }
        }
        known
    }

    /// The kinds of keys to ask for, those first that the file knows: a server shows the
    /// first that it has.
    pub(crate) fn algorithms(&self, all: &[Algorithm]) -> Vec<Algorithm> {
        let is_known = |algorithm: &&Algorithm| {
            self.entries.iter().any(|line| {
                !line.revoked
                    && match (line.key.algorithm(), algorithm) {
                        (Algorithm::Rsa { .. }, Algorithm::Rsa { hash }) => hash.is_some(),
                        (known, algorithm) => known == **algorithm,
                    }
            })
        };
        let (known, unknown): (Vec<_>, Vec<_>) = all.iter().partition(is_known);
        known.into_iter().chain(unknown).cloned().collect()
    }

    /// Whether the server that shows `key` is the host.
    ///
    /// # Errors
    /// For people: it is not, or nobody knows.
    pub(crate) fn check(&self, key: &PublicKey) -> Result<(), String> {
        let Self { host, file, .. } = self;
        let shown = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        let of_same_kind = |line: &&Line| line.key.algorithm() == key.algorithm();
        let same = |line: &&Line| line.key.key_data() == key.key_data();
        let mut entries = self.entries.iter();
        if let Some(line) = entries.clone().filter(|line| line.revoked).find(same) {
            let number = line.number;
            return Err(format!("the key of {host} is revoked: {shown}, see {file}:{number}"));
        }
        let valid = || self.entries.iter().filter(|line| !line.revoked);
        if entries.any(|line| !line.revoked && same(&line)) {
            return Ok(());
        }
        if let Some(line) = valid().find(of_same_kind) {
            let number = line.number;
            return Err(format!(
                "THE KEY OF {host} HAS CHANGED: it shows {shown}, but {file}:{number} has {}. \
                 Somebody may be in between; if it is known why, replace that line",
                line.key.fingerprint(HashAlg::Sha256)
            ));
        }
        let why = match (valid().next(), self.unread.first()) {
            (Some(line), _) => {
                format!("{file}:{} has one of another kind, {}", line.number, line.key.algorithm())
            }
            (None, Some(number)) => format!("{file} has none, and line {number} cannot be read"),
            (None, None) => format!("{file} has none"),
        };
        Err(format!(
            "the key of {host} is not known: it shows {shown}, and {why}. Compare it with the \
             host's own, then add it"
        ))
    }
}

fn matches(patterns: &HostPatterns, host: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|hmac| hmac.chain_update(host).verify_slice(hash).is_ok()),
        HostPatterns::Patterns(patterns) => {
            let mut found = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(not) if matches_glob(not, host) => return false,
                    Some(_) => {}
                    None => found |= matches_glob(pattern, host),
                }
            }
            found
        }
    }
}

/// `*` stands for any text, `?` for one character; large letters are small ones.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.to_ascii_lowercase().chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut pos) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut again: Option<(usize, usize)> = None;
    while pos < text.len() {
        match pattern.get(at) {
            Some('*') => {
                again = Some((at + 1, pos));
                at += 1;
            }
            Some(one) if *one == '?' || *one == text[pos] => {
                at += 1;
                pos += 1;
            }
            _ => match &mut again {
                Some((star, from)) => {
                    *from += 1;
                    (at, pos) = (*star, *from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|one| *one == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEVfcYL\
         CEZuXMfTnhGiadnFhVUdBXWmvQ5NSDIaeoiCvMDt9Z7wlpGKmrVHMhqQUCgdPmrA0PdWlTLfOwzMdtUA=";

    fn key(text: &str) -> PublicKey {
        text.parse().unwrap()
    }

    fn known(text: &str, host: &str, port: u16) -> Known {
        Known::parse(text, "/known", host, port)
    }

    #[test]
    fn a_host_is_known_by_name_pattern_port_and_hash() {
        // Hashes of example.com.
        let hashed = format!(
            "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {OTHER}\n# {ED}\n"
        );
        known(&hashed, "example.com", 22).check(&key(OTHER)).unwrap();
        assert!(known(&hashed, "example.org", 22).check(&key(OTHER)).is_err());
        for (line, host, port) in [
            ("build-1", "build-1", 22),
            ("build-1", "BUILD-1", 22),
            ("a,build-1,b", "build-1", 22),
            ("build-?", "build-1", 22),
            ("*.example.com", "a.example.com", 22),
            ("[build-1]:2222", "build-1", 2222),
            ("[*]:2222", "build-1", 2222),
        ] {
            known(&format!("\n{line} {ED} comment\n"), host, port).check(&key(ED)).unwrap();
        }
        for (line, host, port) in [
            ("build-1", "build-2", 22),
            ("build-1", "build-1", 2222),
            ("[build-1]:2222", "build-1", 22),
            ("*,!build-1", "build-1", 22),
            ("@cert-authority *", "build-1", 22),
        ] {
            let refused = known(&format!("{line} {ED}\n"), host, port).check(&key(ED)).unwrap_err();
            assert!(refused.contains("is not known"), "{line}: {refused}");
        }
    }

    #[test]
    fn a_changed_key_is_refused_with_the_line_that_says_so() {
        let text = format!("# one\nother {OTHER}\nh {ED}\n");
        let refused = known(&text, "h", 22).check(&key(OTHER)).unwrap_err();
        assert!(refused.contains("THE KEY OF h HAS CHANGED"), "{refused}");
        assert!(refused.contains("/known:3"), "{refused}");
        // One of several valid ones is enough.
        let both = format!("h {ED}\nh {OTHER}\n");
        known(&both, "h", 22).check(&key(OTHER)).unwrap();
    }

    #[test]
    fn a_revoked_key_is_refused_also_where_it_is_known() {
        let text = format!("h {ED}\n@revoked * {ED}\n");
        let refused = known(&text, "h", 22).check(&key(ED)).unwrap_err();
        assert!(refused.contains("revoked") && refused.contains("/known:2"), "{refused}");
    }

    #[test]
    fn a_key_of_another_kind_is_unknown_and_known_kinds_are_asked_for_first() {
        let known = known(&format!("h {ECDSA}\nbroken line\n"), "h", 22);
        let refused = known.check(&key(ED)).unwrap_err();
        assert!(refused.contains("is not known") && refused.contains("/known:1"), "{refused}");
        let ecdsa = key(ECDSA).algorithm();
        let all = [Algorithm::Ed25519, ecdsa.clone()];
        assert_eq!(known.algorithms(&all), [ecdsa, Algorithm::Ed25519]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let refused = known("h ssh-ed25519 AAAA\n", "h", 22).check(&key(ED)).unwrap_err();
        assert!(refused.contains("line 1 cannot be read"), "{refused}");
    }
}
