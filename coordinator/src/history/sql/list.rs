//! The statement that lists finished jobs: always along an index that is in the
//! order of the list, so that a page costs its own length and not the table's.

use baton_state::{Final, JobId};
use sqlx::{QueryBuilder, Sqlite};

use super::{STATES, rows::RECORDS, state_word};
use crate::history::filter::{JobFilter, JobState, fold};

/// Index ranges that one statement merges; beyond that it reads all jobs in order.
const RANGES: usize = 64;

/// A part of the list that one index gives in order.
struct Range<'a> {
    projects: Vec<&'a str>,
    states: Vec<&'static str>,
}

/// Appends the statement that gives the records of a page; false if the page is
/// empty without asking.
pub(in crate::history) fn push_page(
    query: &mut QueryBuilder<Sqlite>,
    filter: &JobFilter,
    before: JobId,
    limit: u32,
) -> bool {
    let Some(states) = final_states(filter) else { return false };
    query.push(format!("SELECT CAST(page.id AS BLOB), {} FROM (", RECORDS.selected("r.")));
    for (position, range) in ranges(filter, &states).iter().enumerate() {
        if position > 0 {
            query.push(" UNION ALL ");
        }
        query.push("SELECT id FROM (");
        push_range(query, filter, range, before.min(filter.end_id()), limit);
        query.push(format!(") AS range_{position}"));
    }
    // The page is short; the left join keeps the planner from walking the records, and a job
    // whose record is not found on the page.
    query.push(") AS page LEFT JOIN job_records r ON r.job = page.id ");
    query.push("ORDER BY page.id DESC LIMIT ").push_bind(i64::from(limit));
    true
}

/// The final states to look for, none of them meaning all; `None` if only live
/// ones are asked for.
fn final_states(filter: &JobFilter) -> Option<Vec<&'static str>> {
    let finals: Vec<Final> = filter
        .states
        .iter()
        .filter_map(|state| match state {
            JobState::Finished(state) => Some(*state),
            _ => None,
        })
        .collect();
    if finals.is_empty() && !filter.states.is_empty() {
        return None;
    }
    if finals.len() == STATES.len() {
        return Some(Vec::new());
    }
    Some(finals.into_iter().map(state_word).collect())
}

/// One range for each project and state, unless something else leads the search.
fn ranges<'a>(filter: &'a JobFilter, states: &[&'static str]) -> Vec<Range<'a>> {
    let projects: Vec<&str> = filter.projects.iter().map(String::as_str).collect();
    let led = filter.runner.is_some() || !filter.labels.is_empty() || filter.dead_letters;
    if led || projects.len().max(1) * states.len().max(1) > RANGES {
        return vec![Range { projects, states: states.to_vec() }];
    }
    let projects = one_by_one(&projects);
    let states = one_by_one(states);
    let pairs = projects.iter().flat_map(|projects| {
        states.iter().map(|states| Range { projects: projects.clone(), states: states.clone() })
    });
    pairs.collect()
}

/// Each alone; for none, that there is no restriction.
fn one_by_one<T: Copy>(values: &[T]) -> Vec<Vec<T>> {
    if values.is_empty() {
        return vec![Vec::new()];
    }
    values.iter().map(|value| vec![*value]).collect()
}

fn push_range(
    query: &mut QueryBuilder<Sqlite>,
    filter: &JobFilter,
    range: &Range<'_>,
    end: JobId,
    limit: u32,
) {
    let mut labels = filter.labels.iter();
    let mut runner = filter.runner.as_ref();
    // The table that leads; the rest is looked up for each of its rows.
    let id = if let Some(runner) = runner.take() {
        query.push("SELECT k.job AS id FROM job_runners k CROSS JOIN jobs j ");
        query.push("WHERE j.id = k.job AND k.runner = ").push_bind(runner.clone());
        "k.job"
    } else if let Some(label) = labels.next() {
        query.push("SELECT k.job AS id FROM job_labels k CROSS JOIN jobs j ");
        query.push("WHERE j.id = k.job AND k.label = ").push_bind(label.clone());
        "k.job"
    } else {
        query.push("SELECT j.id AS id FROM jobs j WHERE 1 = 1");
        "j.id"
    };
    query.push(format!(" AND {id} < ")).push_bind(end.to_string());
    if filter.submitted_after.is_some() {
        query.push(format!(" AND {id} >= ")).push_bind(filter.first_id().to_string());
    }
    push_one_of(query, "j.project", &range.projects);
    push_one_of(query, "j.state", &range.states);
    if filter.dead_letters {
        query.push(" AND j.dead_letter = 1");
    }
    for label in labels {
        query.push(" AND EXISTS (SELECT 1 FROM job_labels l WHERE l.job = j.id AND l.label = ");
        query.push_bind(label.clone()).push(")");
    }
    let text = fold(&filter.text);
    if !text.is_empty() {
        query.push(" AND j.name LIKE ").push_bind(format!("%{}%", escape(&text)));
        query.push(r" ESCAPE '\'");
    }
    query.push(format!(" ORDER BY {id} DESC LIMIT ")).push_bind(i64::from(limit));
}

fn push_one_of(query: &mut QueryBuilder<Sqlite>, column: &str, values: &[&str]) {
    match values {
        [] => {}
        [value] => {
            query.push(format!(" AND {column} = ")).push_bind((*value).to_owned());
        }
        values => {
            query.push(format!(" AND {column} IN ("));
            let mut separated = query.separated(", ");
            for value in values {
                separated.push_bind((*value).to_owned());
            }
            query.push(")");
        }
    }
}

/// A text that LIKE takes literally.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
