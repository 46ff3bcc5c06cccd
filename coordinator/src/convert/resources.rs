//! What a job's processes may use together.

use baton_proto::{error::ApiError, v1};
use baton_state::Resources;

use super::invalid;

/// Less than this no program starts with.
const MEMORY_MIN: u64 = 6 * 1024 * 1024;
/// A thousandth is less than any kernel gives out.
const CPU_MIN: u32 = 10;
/// More processors than any machine has.
const CPU_MAX: u32 = 10_000_000;

pub(super) fn from_proto(resources: Option<v1::Resources>) -> Result<Resources, ApiError> {
    let given = resources.unwrap_or_default();
    let (cpu, memory) = (given.cpu_millis, given.memory);
    if cpu != 0 && !(CPU_MIN..=CPU_MAX).contains(&cpu) {
        let problem = "must be from 10 (a hundredth of a processor) to 10,000,000";
        return Err(invalid("spec.resources.cpu_millis", problem));
    }
    // The kernel counts it in a signed number.
    if memory != 0 && !(MEMORY_MIN..=1 << 62).contains(&memory) {
        return Err(invalid("spec.resources.memory", "must be at least 6 MiB, and at most 4 EiB"));
    }
    Ok(Resources {
        cpu_millis: Some(cpu).filter(|cpu| *cpu != 0),
        memory: Some(memory).filter(|memory| *memory != 0),
        processes: Some(given.processes).filter(|processes| *processes != 0),
        open_files: Some(given.open_files).filter(|files| *files != 0),
    })
}

pub(super) fn to_proto(resources: Resources) -> Option<v1::Resources> {
    (resources != Resources::default()).then(|| v1::Resources {
        cpu_millis: resources.cpu_millis.unwrap_or_default(),
        memory: resources.memory.unwrap_or_default(),
        processes: resources.processes.unwrap_or_default(),
        open_files: resources.open_files.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_back_as_they_were_and_none_is_none() {
        assert_eq!(to_proto(from_proto(None).unwrap()), None);
        let given =
            v1::Resources { cpu_millis: 1500, memory: 64 << 20, processes: 10, open_files: 64 };
        assert_eq!(to_proto(from_proto(Some(given)).unwrap()), Some(given));
    }

    #[test]
    fn a_limit_with_which_nothing_could_run_is_refused_with_its_field() {
        let table = [
            (v1::Resources { memory: 1000, ..Default::default() }, "memory"),
            (v1::Resources { memory: u64::MAX, ..Default::default() }, "memory"),
            (v1::Resources { cpu_millis: 1, ..Default::default() }, "cpu_millis"),
        ];
        for (given, field) in table {
            let message = from_proto(Some(given)).unwrap_err().message;
            assert!(message.starts_with(&format!("spec.resources.{field}: ")), "{message}");
        }
    }
}
