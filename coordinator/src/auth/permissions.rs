//! What the token of a job may do. Every method of the API is in the table; one that is
//! not is none that a job may call.

use baton_proto::error::{ApiError, Reason};
use baton_state::{JobId, State};
use tonic::Request;

use super::{Principal, principal};

/// What the token of a job may do with a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// Ask about its job.
    Own,
    /// Ask about its job, and about those whose artifacts that job brings along.
    OwnAndInputs,
    /// Nothing.
    None,
}

use Permission::{None as Nothing, Own, OwnAndInputs};

const PERMISSIONS: [(&str, Permission); 40] = [
    ("/baton.v1.Cluster/Backup", Nothing),
    ("/baton.v1.Cluster/Join", Nothing),
    ("/baton.v1.Cluster/Members", Nothing),
    ("/baton.v1.Cluster/Remove", Nothing),
    ("/baton.v1.Cluster/Status", Nothing),
    ("/baton.v1.Cluster/Transfer", Nothing),
    ("/baton.v1.Fleet/Events", Nothing),
    ("/baton.v1.Fleet/Watch", Nothing),
    // About itself alone.
    ("/baton.v1.Fleet/WhoAmI", Own),
    ("/baton.v1.Jobs/Artifacts", OwnAndInputs),
    ("/baton.v1.Jobs/Cancel", Nothing),
    ("/baton.v1.Jobs/FetchArtifacts", OwnAndInputs),
    ("/baton.v1.Jobs/FindMissing", Nothing),
    ("/baton.v1.Jobs/Get", Own),
    ("/baton.v1.Jobs/List", Nothing),
    ("/baton.v1.Jobs/Logs", Own),
    ("/baton.v1.Jobs/Retry", Nothing),
    ("/baton.v1.Jobs/SearchLog", Own),
    ("/baton.v1.Jobs/SetPriority", Nothing),
    ("/baton.v1.Jobs/Submit", Nothing),
    ("/baton.v1.Jobs/Upload", Nothing),
    ("/baton.v1.Jobs/Watch", Own),
    ("/baton.v1.Jobs/Why", Own),
    ("/baton.v1.Queues/List", Nothing),
    ("/baton.v1.Queues/Pause", Nothing),
    ("/baton.v1.Queues/Resume", Nothing),
    ("/baton.v1.Runners/Checks", Nothing),
    ("/baton.v1.Runners/Cordon", Nothing),
    ("/baton.v1.Runners/Drain", Nothing),
    ("/baton.v1.Runners/FetchSource", Nothing),
    ("/baton.v1.Runners/FindMissing", Nothing),
    ("/baton.v1.Runners/Get", Nothing),
    ("/baton.v1.Runners/Lift", Nothing),
    ("/baton.v1.Runners/List", Nothing),
    ("/baton.v1.Runners/Remove", Nothing),
    ("/baton.v1.Runners/Resume", Nothing),
    ("/baton.v1.Runners/SendContent", Nothing),
    ("/baton.v1.Runners/SendLog", Nothing),
    ("/baton.v1.Runners/Session", Nothing),
    ("/baton.v1.Runners/SetLabels", Nothing),
];

/// The path of the method that a request calls, which an interceptor does not see
/// otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Method(pub(crate) String);

impl Permission {
    /// For the method of this request.
    fn of<T>(request: &Request<T>) -> Self {
        let method = request.extensions().get::<Method>();
        let found = method.and_then(|Method(path)| {
            PERMISSIONS.iter().find(|(method, _)| method == path).map(|(_, permission)| *permission)
        });
        found.unwrap_or(Self::None)
    }

    /// Whether somebody may call the method at all.
    fn is_given_to(self, principal: &Principal) -> bool {
        match principal {
            Principal::Job(_) => self != Self::None,
            Principal::Admin => true,
        }
    }
}

/// The full names of the methods that somebody may call.
pub(crate) fn methods(principal: &Principal) -> Vec<String> {
    let given = PERMISSIONS.iter().filter(|(_, permission)| permission.is_given_to(principal));
    given.map(|(path, _)| path.trim_start_matches('/').to_owned()).collect()
}

/// Refuses a method that the caller may not call for any job.
pub(super) fn check_method<T>(request: &Request<T>, principal: &Principal) -> Result<(), ApiError> {
    match principal {
        Principal::Job(job) if !Permission::of(request).is_given_to(principal) => Err(denied(*job)),
        Principal::Job(_) | Principal::Admin => Ok(()),
    }
}

/// Refuses a question about a job that is not the caller's to ask.
pub(crate) fn check_job<T>(
    request: &Request<T>,
    state: &State,
    job: JobId,
) -> Result<(), ApiError> {
    let own = match principal(request) {
        Some(Principal::Job(own)) => *own,
        Some(Principal::Admin) | None => return Ok(()),
    };
    let is_input = || {
        let spec = state.job(own).map(|own| &own.spec);
        spec.is_some_and(|spec| spec.inputs.iter().any(|input| input.job == job))
    };
    let permitted = match Permission::of(request) {
        Permission::Own => job == own,
        Permission::OwnAndInputs => job == own || is_input(),
        Permission::None => false,
    };
    if permitted { Ok(()) } else { Err(denied(own)) }
}

fn denied(job: JobId) -> ApiError {
    ApiError::new(
        Reason::PermissionDenied,
        format!("the token of job {job} does not allow that"),
        "a job may look at itself and fetch the artifacts that it brings along; for anything \
         else use a token of the cluster",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use baton_proto::DESCRIPTORS;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_of_the_api_is_in_the_table_and_nothing_else() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let mut methods = BTreeSet::new();
        for file in files.iter().filter(|file| file.package() == "baton.v1") {
            for service in &file.service {
                for method in &service.method {
                    methods.insert(format!("/baton.v1.{}/{}", service.name(), method.name()));
                }
            }
        }
        let told: BTreeSet<_> = PERMISSIONS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(methods, told);
    }

    #[test]
    fn a_job_changes_nothing_and_lists_nothing() {
        let allowed = methods(&Principal::Job(JobId::MAX));
        let allowed: Vec<_> = allowed.iter().map(|it| it.rsplit('/').next().unwrap()).collect();
        let expected =
            ["WhoAmI", "Artifacts", "FetchArtifacts", "Get", "Logs", "SearchLog", "Watch", "Why"];
        assert_eq!(allowed, expected);
        let all = methods(&Principal::Admin);
        assert_eq!(all.len(), PERMISSIONS.len());
        assert!(all.contains(&"baton.v1.Jobs/Cancel".to_owned()));
    }
}
