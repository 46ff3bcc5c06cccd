//! The keys to log in with, and the login.

use std::{path::Path, sync::Arc};

use russh::{
    AgentAuthError, MethodKind, MethodSet,
    client::{AuthResult, Handle, Handler},
    keys::{
        HashAlg, PrivateKey, PrivateKeyWithHashAlg,
        agent::{AgentIdentity, client::AgentClient},
        load_secret_key,
    },
};
use tokio::net::UnixStream;

use super::{connection::describe, remote::Login};

/// The keys to log in with.
pub(super) enum Keys {
    File { key: Arc<PrivateKey>, path: String },
    Agent { agent: Box<AgentClient<UnixStream>>, keys: Vec<AgentIdentity>, path: String },
}

/// Why nobody was let in.
pub(super) enum Refused {
    /// The connection broke.
    Broken(String),
    /// The host does not want to.
    Login(String),
}

impl Keys {
    /// Gets them ready before a host is connected to, which would close the connection
    /// if nothing came.
    pub(super) async fn of(login: &Login) -> Result<Self, String> {
        match login {
            Login::Key(path) => {
                Ok(Self::File { key: Arc::new(read_key(path)?), path: path.display().to_string() })
            }
            Login::Agent(path) => {
                let path = path.display().to_string();
                let failed = |error| format!("the agent at {path}: {error}");
                let mut agent = AgentClient::connect_uds(&path).await.map_err(failed)?;
                let keys = agent.request_identities().await.map_err(failed)?;
                if keys.is_empty() {
                    return Err(format!("the agent at {path} has no key; add one with ssh-add"));
                }
                Ok(Self::Agent { agent: Box::new(agent), keys, path })
            }
        }
    }

    /// Shows them to a verified host.
    pub(super) async fn log_in<H: Handler>(
        self,
        host: &mut Handle<H>,
        user: &str,
    ) -> Result<(), Refused> {
        let broken = |error: russh::Error| Refused::Broken(describe(&error));
        let rsa = match &self {
            Self::File { key, .. } if !key.algorithm().is_rsa() => None,
            // Without the server's word: what every server of this decade takes.
            _ => host
                .best_supported_rsa_hash()
                .await
                .map_err(broken)?
                .unwrap_or(Some(HashAlg::Sha256)),
        };
        let (result, what) = match self {
            Self::File { key, path } => {
                let key = PrivateKeyWithHashAlg::new(key, rsa);
                let result = host.authenticate_publickey(user, key).await.map_err(broken)?;
                (result, format!("the key {path}"))
            }
            Self::Agent { mut agent, keys, path } => {
                let what = format!("each of the {} keys of the agent at {path}", keys.len());
                let mut result = none_tried();
                for key in keys {
                    let AgentIdentity::PublicKey { key, .. } = key else { continue };
                    let hash = if key.algorithm().is_rsa() { rsa } else { None };
                    result = host
                        .authenticate_publickey_with(user, key, hash, &mut *agent)
                        .await
                        .map_err(|error| match error {
                        AgentAuthError::Send(error) => Refused::Broken(error.to_string()),
                        AgentAuthError::Key(error) => Refused::Login(error.to_string()),
                    })?;
                    if result.success() {
                        break;
                    }
                }
                (result, what)
            }
        };
        match result {
            AuthResult::Success => Ok(()),
            // What is said in place of an answer.
            AuthResult::Failure { .. } if host.is_closed() => {
                Err(Refused::Broken("the connection was closed during the login".to_owned()))
            }
            AuthResult::Failure { remaining_methods, partial_success } => {
                let wants = if partial_success { ", it wants more than a key" } else { "" };
                let methods: Vec<_> = remaining_methods.iter().map(<&'static str>::from).collect();
                let takes = if remaining_methods.contains(&MethodKind::PublicKey) {
                    String::new()
                } else {
                    format!("; it takes {}", methods.join(", "))
                };
                Err(Refused::Login(format!("the server does not take {what}{wants}{takes}")))
            }
        }
    }
}

fn none_tried() -> AuthResult {
    AuthResult::Failure { remaining_methods: MethodSet::empty(), partial_success: false }
}

fn read_key(path: &Path) -> Result<PrivateKey, String> {
    load_secret_key(path, None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => format!(
            "the key {} is encrypted; give one that is not, or put it into an agent and name \
             the agent's socket",
            path.display()
        ),
        error => format!("cannot read the key {}: {error}", path.display()),
    })
}
