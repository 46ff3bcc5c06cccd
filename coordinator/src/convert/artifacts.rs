//! What a job leaves behind: checked, and as the API shows it.

use baton_proto::{error::ApiError, globs, v1};
use baton_state::{ArtifactTree, Artifacts, Cache, Input};

use super::invalid;

const GLOBS_MAX: usize = 100;
const CACHES_MAX: usize = 32;
const PATHS_MAX: usize = 32;
const FALLBACKS_MAX: usize = 16;
const INPUTS_MAX: usize = 32;

pub(super) fn artifacts_from_proto(artifacts: v1::Artifacts) -> Result<Artifacts, ApiError> {
    let field = "spec.artifacts";
    if !(1..=GLOBS_MAX).contains(&artifacts.globs.len()) {
        return Err(invalid(field, format!("must be 1 to {GLOBS_MAX} patterns")));
    }
    for glob in &artifacts.globs {
        globs::glob(glob).map_err(|problem| invalid(field, format!("{glob:?} {problem}")))?;
    }
    let always = match v1::ArtifactsWhen::try_from(artifacts.when) {
        Ok(v1::ArtifactsWhen::Unspecified | v1::ArtifactsWhen::Success) => false,
        Ok(v1::ArtifactsWhen::Always) => true,
        Err(_) => {
            let problem = format!("{} is not known to this version", artifacts.when);
            return Err(invalid("spec.artifacts.when", problem));
        }
    };
    Ok(Artifacts { globs: artifacts.globs, always })
}

pub(super) fn artifacts_to_proto(artifacts: &Artifacts) -> v1::Artifacts {
    let when = match artifacts.always {
        true => v1::ArtifactsWhen::Always,
        false => v1::ArtifactsWhen::Success,
    };
    v1::Artifacts { globs: artifacts.globs.clone(), when: when.into() }
}

pub(super) fn caches_from_proto(caches: Vec<v1::Cache>) -> Result<Vec<Cache>, ApiError> {
    if caches.len() > CACHES_MAX {
        return Err(invalid("spec.caches", format!("must be at most {CACHES_MAX}")));
    }
    caches.into_iter().map(cache_from_proto).collect()
}

fn cache_from_proto(cache: v1::Cache) -> Result<Cache, ApiError> {
    let v1::Cache { key, paths, fallbacks } = cache;
    let wrong = |text: &str, problem: &str| invalid("spec.caches", format!("{text:?} {problem}"));
    if !(1..=PATHS_MAX).contains(&paths.len()) {
        return Err(wrong(&key, &format!("must have 1 to {PATHS_MAX} paths")));
    }
    if fallbacks.len() > FALLBACKS_MAX {
        return Err(wrong(&key, &format!("must have at most {FALLBACKS_MAX} fallbacks")));
    }
    for text in fallbacks.iter().chain([&key]) {
        globs::key(text).map_err(|problem| wrong(text, &problem))?;
    }
    for path in &paths {
        globs::path(path).map_err(|problem| wrong(path, problem))?;
    }
    Ok(Cache { key, paths, fallbacks })
}

pub(super) fn cache_to_proto(cache: &Cache) -> v1::Cache {
    let Cache { key, paths, fallbacks } = cache.clone();
    v1::Cache { key, paths, fallbacks }
}

/// The artifacts that a job wants of others. What they are is yet to be looked up.
pub(super) fn inputs_from_proto(inputs: Vec<v1::Input>) -> Result<Vec<Input>, ApiError> {
    let field = "spec.inputs";
    if inputs.len() > INPUTS_MAX {
        return Err(invalid(field, format!("must be at most {INPUTS_MAX}")));
    }
    let input = |input: v1::Input| {
        let v1::Input { job_id, path, .. } = input;
        let job = job_id.parse();
        let job = job.map_err(|error| invalid(field, format!("{job_id:?}: {error}")))?;
        if !globs::plain(&path).is_empty() {
            globs::path(&path).map_err(|problem| invalid(field, format!("{path:?} {problem}")))?;
        }
        let tree = ArtifactTree { digest: String::new(), size: 0, files: 0, content: 0 };
        Ok(Input { job, path: globs::plain(&path), tree })
    };
    inputs.into_iter().map(input).collect()
}

pub(super) fn input_to_proto(input: &Input) -> v1::Input {
    v1::Input {
        job_id: input.job.to_string(),
        path: input.path.clone(),
        tree: Some(tree_to_proto(&input.tree)),
    }
}

/// A folder of artifacts as the API shows it.
pub(crate) fn tree_to_proto(tree: &ArtifactTree) -> v1::ArtifactTree {
    let ArtifactTree { digest, size, files, content } = tree.clone();
    v1::ArtifactTree { digest, size, files, content }
}

/// What a runner says that it has stored.
pub(crate) fn tree_from_proto(tree: v1::ArtifactTree) -> ArtifactTree {
    let v1::ArtifactTree { digest, size, files, content } = tree;
    ArtifactTree { digest, size, files, content }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_paths_and_keys_that_lead_out_or_mean_nothing_are_refused_with_their_field() {
        for globs in [vec![], vec!["../x".to_owned()], vec!["[".to_owned()]] {
            let refused = artifacts_from_proto(v1::Artifacts { globs, when: 0 }).unwrap_err();
            assert!(refused.message.starts_with("spec.artifacts: "), "{}", refused.message);
        }
        let right = v1::Cache {
            key: "k-{hash:*.lock}".to_owned(),
            paths: vec!["target".to_owned()],
            fallbacks: vec!["k-".to_owned()],
        };
        let read = caches_from_proto(vec![right.clone()]).unwrap();
        assert_eq!(read.iter().map(cache_to_proto).collect::<Vec<_>>(), vec![right.clone()]);
        for wrong in [
            v1::Cache { key: String::new(), ..right.clone() },
            v1::Cache { key: "{hash:".to_owned(), ..right.clone() },
            v1::Cache { paths: vec![], ..right.clone() },
            v1::Cache { paths: vec!["/root".to_owned()], ..right.clone() },
            v1::Cache { fallbacks: vec![String::new()], ..right },
        ] {
            let refused = caches_from_proto(vec![wrong]).unwrap_err();
            assert!(refused.message.starts_with("spec.caches: "), "{}", refused.message);
        }
    }
}
