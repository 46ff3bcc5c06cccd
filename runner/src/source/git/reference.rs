//! What a name means: the answer of `git ls-remote`, read.

use baton_proto::source::is_commit_id;

/// A name of the repository, and what it stands for there at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The whole name, such as `refs/heads/main`, or `HEAD`.
    pub(super) name: String,
    /// The object: an annotated tag's is the tag.
    pub(super) object: String,
    /// The commit; what a tag stands for in the end.
    pub(super) commit: String,
    /// What the name is called in the job's repository.
    pub(super) local: String,
}

/// What it is called there when it is neither branch nor tag.
pub(super) const LOCAL: &str = "refs/baton/source";

/// What to ask for, to find `name`.
pub(super) fn patterns(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["HEAD".to_owned()];
    }
    let mut patterns = Vec::new();
    for full in candidates(name) {
        patterns.push(format!("{full}^{{}}"));
        patterns.push(full);
    }
    patterns
}

/// Whole names that `name` may stand for; the first that there is counts.
fn candidates(name: &str) -> Vec<String> {
    match name {
        "" | "HEAD" => vec!["HEAD".to_owned()],
        name if name.starts_with("refs/") => vec![name.to_owned()],
        name => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
    }
}

/// Finds `name` in the answer of `git ls-remote --symref`.
pub(super) fn find(name: &str, answer: &str) -> Option<Found> {
    let lines = || answer.lines().filter_map(|line| line.split_once('\t'));
    let id = |wanted: &str| {
        let found = lines().find(|(id, name)| *name == wanted && is_commit_id(id));
        found.map(|(id, _)| id.to_owned())
    };
    candidates(name).into_iter().find_map(|full| {
        let object = id(&full)?;
        let commit = id(&format!("{full}^{{}}")).unwrap_or_else(|| object.clone());
        // What HEAD is another name of.
        let head = lines().find(|(_, name)| *name == "HEAD");
        let target = head.and_then(|(target, _)| target.strip_prefix("ref: "));
        let named = if full == "HEAD" { target.unwrap_or("HEAD") } else { &full };
        let local = local(named);
        Some(Found { name: full, object, commit, local })
    })
}

fn local(name: &str) -> String {
    match name.strip_prefix("refs/heads/") {
        // As whoever cloned it would have it.
        Some(branch) if baton_proto::source::git_ref(branch).is_ok() => {
            format!("refs/remotes/origin/{branch}")
        }
        _ if name.starts_with("refs/tags/") => name.to_owned(),
        _ => LOCAL.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_branch_comes_before_a_tag_and_a_tag_stands_for_its_commit() {
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(40));
        let answer = format!(
            "ref: refs/heads/trunk\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/v1\n{b}\trefs/tags/v1\n\
             {c}\trefs/tags/v1^{{}}\n{b}\trefs/tags/v2\n{c}\trefs/tags/v2^{{}}\n"
        );
        let found = |name: &str| find(name, &answer);
        let branch = found("v1").unwrap();
        assert_eq!((branch.commit, branch.local), (a.clone(), "refs/remotes/origin/v1".into()));
        let tag = found("v2").unwrap();
        assert_eq!((tag.object, tag.commit, tag.local), (b, c, "refs/tags/v2".into()));
        let head = found("").unwrap();
        assert_eq!((head.name, head.commit), ("HEAD".into(), a));
        assert_eq!(head.local, "refs/remotes/origin/trunk");
        assert_eq!(found("v3"), None);
        assert_eq!(found("refs/tags/v1").unwrap().local, "refs/tags/v1");
        assert_eq!(find("", ""), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_an_id_or_a_name_of_what_is_none(
            name in prop_oneof![Just(""), Just("main"), Just("refs/x")],
            lines in proptest::collection::vec(
                (prop_oneof![Just("a".repeat(40)), Just("ref: refs/heads/-x".to_owned()), Just("ref: x ..".to_owned()), "\\PC{0,8}"],
                 prop_oneof![Just("HEAD"), Just("refs/heads/main"), Just("refs/tags/main^{}"), Just("refs/x")]),
                0..6)
        ) {
            let answer: String = lines.iter().map(|(id, name)| format!("{id}\t{name}\n")).collect();
            if let Some(found) = find(name, &answer) {
                prop_assert!(is_commit_id(&found.object) && is_commit_id(&found.commit));
                prop_assert!(baton_proto::source::git_ref(&found.local).is_ok());
                prop_assert!(found.local.starts_with("refs/"));
            }
        }
    }
}
