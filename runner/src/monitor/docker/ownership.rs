//! To whom the work folder belongs in a container: the user whom the command runs as.

use std::io::Read as _;

use bollard::{Docker, query_parameters::DownloadFromContainerOptions};
use futures::StreamExt as _;

use crate::{
    executor::docker::{container::Container, engine::describe},
    monitor::archive::Owner,
};

/// More users than any image has.
const LONGEST: usize = 4 << 20;

/// The user of the container that was created.
///
/// # Errors
/// For people: the image has no such user.
pub(super) async fn of_user(
    docker: &Docker,
    name: &str,
    container: &Container,
) -> Result<Owner, String> {
    let user = match &container.user {
        Some(user) => user.clone(),
        None => {
            let created = docker.inspect_container(name, None).await;
            let config = created.map_err(|error| describe(&error))?.config;
            config.and_then(|config| config.user).unwrap_or_default()
        }
    };
    if matches!(user.as_str(), "" | "0" | "root") {
        return Ok(Owner::default());
    }
    let (user, group) = user.split_once(':').map_or((&*user, None), |(u, g)| (u, Some(g)));
    let users = file(docker, name, "/etc/passwd").await;
    let owner = match (user.parse(), entry(&users, user)) {
        // A number may stand for a user with a group, or for itself.
        (Ok(number), _) => Owner { user: number, group: group_of_number(&users, number) },
        (Err(_), Some(owner)) => owner,
        (Err(_), None) => return Err(format!("the image has no user {user:?}")),
    };
    let Some(group) = group else { return Ok(owner) };
    if let Ok(group) = group.parse() {
        return Ok(Owner { group, ..owner });
    }
    let groups = file(docker, name, "/etc/group").await;
    match fields(&groups, group).and_then(|fields| fields.get(2)?.parse().ok()) {
        Some(group) => Ok(Owner { group, ..owner }),
        None => Err(format!("the image has no group {group:?}")),
    }
}

/// A file of the image; empty when there is none.
async fn file(docker: &Docker, name: &str, path: &str) -> String {
    let options = DownloadFromContainerOptions { path: path.to_owned() };
    let mut archive = Vec::new();
    let mut chunks = docker.download_from_container(name, Some(options));
    while let Some(Ok(chunk)) = chunks.next().await {
        archive.extend_from_slice(&chunk);
        if archive.len() > LONGEST {
            break;
        }
    }
    let mut text = String::new();
    let mut archive = tar::Archive::new(&archive[..]);
    if let Ok(mut entries) = archive.entries()
        && let Some(Ok(mut entry)) = entries.next()
    {
        let _ = entry.read_to_string(&mut text);
    }
    text
}

fn fields<'a>(lines: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut entries = lines.lines().map(|line| line.split(':').collect::<Vec<_>>());
    entries.find(|fields| fields.first() == Some(&name))
}

fn entry(users: &str, name: &str) -> Option<Owner> {
    let fields = fields(users, name)?;
    Some(Owner { user: fields.get(2)?.parse().ok()?, group: fields.get(3)?.parse().ok()? })
}

/// The group of the user with this number; root's, as the engine has it, without one.
fn group_of_number(users: &str, number: u64) -> u64 {
    let mut entries = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let number = number.to_string();
    let entry = entries.find(|fields| fields.get(2) == Some(&number.as_str()));
    entry.and_then(|fields| fields.get(3)?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0::/:/bin/sh\nnode:x:1000:100::/home/node:/bin/sh\nbad:x\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(entry(USERS, "node"), Some(Owner { user: 1000, group: 100 }));
        assert_eq!(entry(USERS, "bad"), None);
        assert_eq!(entry(USERS, "nobody"), None);
        assert_eq!(group_of_number(USERS, 1000), 100);
        assert_eq!(group_of_number(USERS, 7), 0);
    }
}
