//! Where a job's code comes from: checked. What URLs, refs and paths may be is
//! `baton_proto::source`'s to say, for the runner too.

use baton_proto::{
    error::ApiError,
    source,
    v1::{self, source::Kind},
};
use baton_state::{Archive, Git, Source, Tree, Workspace};

use super::invalid;
use crate::files::Digest;

/// Checks a source.
pub(super) fn source_from_proto(source: v1::Source) -> Result<Source, ApiError> {
    match source.kind {
        Some(Kind::Archive(v1::Archive { digest, size })) => {
            check_digest("spec.source.archive.digest", &digest)?;
            Ok(Source::Archive(Archive { digest, size }))
        }
        Some(Kind::Tree(v1::TreeSource { digest, size, content })) => {
            check_digest("spec.source.tree.digest", &digest)?;
            Ok(Source::Tree(Tree { digest, size, content }))
        }
        Some(Kind::Git(git)) => git_from_proto(git).map(Source::Git),
        Some(Kind::Workspace(v1::Workspace { path })) => {
            source::workspace_path(&path)
                .map_err(|problem| invalid("spec.source.workspace.path", problem))?;
            Ok(Source::Workspace(Workspace { path }))
        }
        None => Err(invalid("spec.source", "its kind is missing or not known to this version")),
    }
}

/// A source as the API shows it.
pub(super) fn source_to_proto(source: &Source) -> v1::Source {
    let kind = match source {
        Source::Archive(Archive { digest, size }) => {
            Kind::Archive(v1::Archive { digest: digest.clone(), size: *size })
        }
        Source::Git(git) => Kind::Git(v1::Git {
            url: git.url.clone(),
            r#ref: git.reference.clone(),
            depth: git.depth,
            no_submodules: !git.submodules,
            lfs: git.lfs,
        }),
        Source::Tree(Tree { digest, size, content }) => {
            Kind::Tree(v1::TreeSource { digest: digest.clone(), size: *size, content: *content })
        }
        Source::Workspace(Workspace { path }) => {
            Kind::Workspace(v1::Workspace { path: path.clone() })
        }
    };
    v1::Source { kind: Some(kind) }
}

fn check_digest(field: &'static str, digest: &str) -> Result<(), ApiError> {
    digest.parse::<Digest>().map(drop).map_err(|error| invalid(field, error))
}

fn git_from_proto(git: v1::Git) -> Result<Git, ApiError> {
    source::git_url(&git.url).map_err(|problem| invalid("spec.source.git.url", problem))?;
    source::git_ref(&git.r#ref).map_err(|problem| invalid("spec.source.git.ref", problem))?;
    if git.depth > source::DEPTH_MAX {
        return Err(invalid("spec.source.git.depth", "must be at most 1000000"));
    }
    Ok(Git {
        url: git.url,
        reference: git.r#ref,
        depth: git.depth,
        submodules: !git.no_submodules,
        lfs: git.lfs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git() -> v1::Git {
        let (url, r#ref) = ("https://example.org/app.git".to_owned(), "main".to_owned());
        v1::Git { url, r#ref, depth: 5, no_submodules: true, lfs: true }
    }

    fn of(kind: Kind) -> v1::Source {
        v1::Source { kind: Some(kind) }
    }

    #[test]
    fn every_kind_reads_back_as_it_was() {
        let archive = v1::Archive { digest: "0".repeat(64), size: 7 };
        let workspace = v1::Workspace { path: "team/app".to_owned() };
        let tree = v1::TreeSource { digest: "0".repeat(64), size: 7, content: 8 };
        for kind in
            [Kind::Archive(archive), Kind::Git(git()), Kind::Workspace(workspace), Kind::Tree(tree)]
        {
            let source = source_from_proto(of(kind.clone())).unwrap();
            assert_eq!(source_to_proto(&source), of(kind));
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_field() {
        let workspace = v1::Workspace { path: "../x".to_owned() };
        let archive = v1::Archive { digest: "A".repeat(64), size: 7 };
        for (kind, field) in [
            (Kind::Git(v1::Git { url: "ext::sh".to_owned(), ..git() }), "git.url: "),
            (Kind::Git(v1::Git { r#ref: "--exec=id".to_owned(), ..git() }), "git.ref: "),
            (Kind::Git(v1::Git { depth: 1_000_001, ..git() }), "git.depth: "),
            (Kind::Workspace(workspace), "workspace.path: "),
            (Kind::Archive(archive), "archive.digest: "),
            (Kind::Tree(v1::TreeSource::default()), "tree.digest: "),
        ] {
            let refused = source_from_proto(of(kind)).unwrap_err().message;
            assert!(refused.starts_with(&format!("spec.source.{field}")), "{refused}");
        }
        assert!(source_from_proto(v1::Source { kind: None }).is_err());
    }
}
