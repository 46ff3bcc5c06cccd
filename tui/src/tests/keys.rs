//! Scripts of keys, and what comes of them.

use baton_proto::v1::{
    AtDeadline, JobChanges, ListJobsRequest, WatchFleetResponse, WhoAmIResponse,
};

use super::{
    fixtures::{Fleet, admin, at, console, job_id, learn, press, send, settings, tell},
    pictures::{buffer, text},
};
use crate::{
    event::{Event, Intent, News, Wants},
    keys::{Action, KeyMap},
    model::{Model, Settings},
    operation::{Operation, Task},
};

const SIZE: (u16, u16) = (80, 24);

fn jobs() -> Model {
    console(settings("jobs", ""), SIZE, Fleet::Typical)
}

fn runners() -> Model {
    console(settings("runners", ""), SIZE, Fleet::Typical)
}

fn screen(model: &Model) -> String {
    text(&buffer(model))
}

/// The last watch that was asked for.
fn watched(intents: &[Intent]) -> &Wants {
    let watch = intents.iter().rev().find_map(|intent| match intent {
        Intent::Watch(_, wants) => Some(wants),
        _ => None,
    });
    watch.expect("something else is watched")
}

fn acts(intents: &[Intent]) -> Vec<Task> {
    let tasks = intents.iter().filter_map(|intent| match intent {
        Intent::Act(tasks) => Some(tasks.clone()),
        _ => None,
    });
    tasks.flatten().collect()
}

fn operations(intents: &[Intent]) -> Vec<Operation> {
    acts(intents).into_iter().map(|task| task.operation).collect()
}

/// The job that is so far from the top of the list.
fn job(at: usize) -> String {
    job_id(1_000_000 - at)
}

#[test]
fn a_filter_is_asked_of_the_coordinator_and_esc_takes_it_away() {
    let mut model = jobs();
    let intents = press(&mut model, "/ 'state:failed_project:web enter");
    let request = watched(&intents).fleet.jobs.clone().unwrap();
    assert_eq!((request.states, request.projects), (vec![5], vec!["web".to_owned()]));
    assert!(screen(&model).contains("Jobs state:failed project:web"), "{}", screen(&model));
    assert!(screen(&model).contains("loading"), "{}", screen(&model));
    let intents = press(&mut model, "esc");
    let request = watched(&intents).fleet.jobs.clone().unwrap();
    assert_eq!(request, ListJobsRequest { page_size: 200, ..ListJobsRequest::default() });
    let intents = press(&mut model, "!");
    assert_eq!(watched(&intents).fleet.jobs.clone().unwrap().states, [5, 6, 8, 9]);
}

#[test]
fn a_mistake_in_a_filter_is_told_where_it_is_written() {
    let mut model = jobs();
    press(&mut model, "/ 'state:bad enter");
    assert!(screen(&model).contains("there is no state `bad`"), "{}", screen(&model));
    press(&mut model, "ctrl-w tab");
    assert!(screen(&model).contains("/state:queued"), "{}", screen(&model));
}

#[test]
fn a_list_of_runners_is_filtered_here_and_at_once() {
    let mut model = runners();
    press(&mut model, "/ 'mac enter");
    assert!(screen(&model).contains("mac-mini") && !screen(&model).contains("build-1"));
    press(&mut model, "esc");
    assert!(screen(&model).contains("build-1"));
    press(&mut model, "!");
    assert!(!screen(&model).contains("mac-mini") && screen(&model).contains("build-3"));
}

#[test]
fn cancelling_says_what_will_happen_and_happens_only_after_y() {
    let mut model = jobs();
    // The first three of the list are live, the fourth has ended.
    let intents = press(&mut model, "space space j space c");
    assert_eq!(acts(&intents), []);
    let shown = screen(&model);
    assert!(shown.contains("Cancel 2 jobs?") && shown.contains("unit tests"), "{shown}");
    assert_eq!(acts(&press(&mut model, "enter x n")), []);
    assert!(screen(&model).contains("nothing was done"));
    let intents = press(&mut model, "c y");
    assert_eq!(
        operations(&intents),
        [Operation::Cancel(job(1)), Operation::Cancel(job(0))]
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    assert!(screen(&model).contains("0 of 2 done"), "{}", screen(&model));
    assert!(!screen(&model).contains("marked"), "the marks have served");
    for task in acts(&intents) {
        send(&mut model, Event::Done(task, Ok(())), 1);
    }
    assert!(screen(&model).contains("2 jobs will stop"), "{}", screen(&model));
}

#[test]
fn each_failure_is_told_and_is_tried_again_with_the_same_key() {
    let mut model = jobs();
    let intents = press(&mut model, "space space c y");
    let [good, bad] = &acts(&intents)[..] else { panic!("two jobs") };
    assert_ne!(good.idempotency_key, bad.idempotency_key);
    send(&mut model, Event::Done(bad.clone(), Err("no leader".to_owned())), 1);
    send(&mut model, Event::Done(good.clone(), Ok(())), 1);
    let shown = screen(&model);
    assert!(shown.contains("cancel: 1 failure") && shown.contains("no leader"), "{shown}");
    assert_eq!(acts(&press(&mut model, "r")), std::slice::from_ref(bad));
    send(&mut model, Event::Done(bad.clone(), Ok(())), 2);
    assert!(screen(&model).contains("1 job will stop"), "{}", screen(&model));
}

#[test]
fn a_mark_on_a_job_that_went_away_counts_no_more() {
    let mut model = jobs();
    press(&mut model, "space space");
    assert!(screen(&model).contains("(2 marked)"));
    let jobs = Some(JobChanges { gone: vec![job(0)], ..JobChanges::default() });
    let update = WatchFleetResponse { jobs, ..WatchFleetResponse::default() };
    let news = News::Fleet(Box::new(update));
    learn(&mut model, news, 1);
    assert!(screen(&model).contains("(1 marked)"), "{}", screen(&model));
    assert_eq!(operations(&press(&mut model, "c y")), [Operation::Cancel(job(1))]);
}

#[test]
fn what_an_earlier_watch_tells_comes_too_late() {
    let mut model = jobs();
    let earlier = model.generation;
    press(&mut model, "/ 'none enter");
    let jobs = Some(JobChanges { reset: true, ..JobChanges::default() });
    let late = WatchFleetResponse { jobs, ..WatchFleetResponse::default() };
    send(&mut model, Event::News(earlier, News::Fleet(Box::new(late))), 1);
    assert!(screen(&model).contains("loading"), "{}", screen(&model));
}

#[test]
fn the_jobs_of_an_earlier_filter_are_not_shown_under_another_one() {
    let mut model = jobs();
    press(&mut model, "space");
    press(&mut model, "/ 'none enter");
    assert!(!screen(&model).contains("unit tests"), "{}", screen(&model));
    assert_eq!(operations(&press(&mut model, "c y")), []);
}

#[test]
fn a_failure_waits_for_what_somebody_is_in_the_middle_of() {
    let mut model = jobs();
    let task = acts(&press(&mut model, "c y")).remove(0);
    press(&mut model, ":");
    send(&mut model, Event::Done(task, Err("no leader".to_owned())), 1);
    assert!(!screen(&model).contains("no leader"), "{}", screen(&model));
    press(&mut model, "esc");
    assert!(screen(&model).contains("no leader"), "{}", screen(&model));
}

#[test]
fn nothing_that_was_confirmed_is_left_undone_without_a_word() {
    let mut model = jobs();
    press(&mut model, "c y");
    assert!(!press(&mut model, "q").contains(&Intent::Quit));
    assert!(screen(&model).contains("0 of 1 done"), "{}", screen(&model));
    assert!(press(&mut model, "ctrl-c").contains(&Intent::Quit));
}

#[test]
fn only_what_makes_sense_for_a_job_is_offered() {
    let mut model = jobs();
    let footer = |model: &Model| screen(model).lines().last().unwrap().to_owned();
    assert!(footer(&model).contains("c cancel") && !footer(&model).contains("r retry"));
    press(&mut model, "j j j");
    assert!(!footer(&model).contains("c cancel") && footer(&model).contains("r retry"));
    assert_eq!(press(&mut model, "c"), []);
    assert!(footer(&model).contains("not possible here as things are"), "{}", footer(&model));
    assert_eq!(operations(&press(&mut model, "r y")), [Operation::Retry(job(3))]);
}

#[test]
fn a_priority_is_asked_for_and_checked() {
    let mut model = jobs();
    press(&mut model, "p 'high enter");
    assert!(screen(&model).contains("a number from -100 to 100"), "{}", screen(&model));
    press(&mut model, "ctrl-u '50 enter");
    assert!(screen(&model).contains("Give 1 job priority 50?"), "{}", screen(&model));
    assert_eq!(operations(&press(&mut model, "y")), [Operation::Priority(job(0), 50)]);
}

#[test]
fn a_runner_is_drained_with_a_deadline() {
    let mut model = runners();
    press(&mut model, "D ctrl-u '90s_cancel enter");
    let shown = screen(&model);
    assert!(
        shown.contains("Drain 1 runner within 1m30s?") && shown.contains("cancelled"),
        "{shown}"
    );
    let deadline = Some(std::time::Duration::from_secs(90));
    let drained = Operation::Drain("r1".to_owned(), deadline, AtDeadline::Cancel);
    assert_eq!(operations(&press(&mut model, "y")), [drained]);
    press(&mut model, "D ctrl-u 'soon enter");
    assert!(screen(&model).contains("`soon` is neither a time"), "{}", screen(&model));
    let drained = Operation::Drain("r1".to_owned(), None, AtDeadline::Wait);
    assert_eq!(operations(&press(&mut model, "ctrl-u enter y")), [drained]);
}

#[test]
fn marked_runners_are_cordoned_together_and_those_that_are_already_are_left_out() {
    let mut model = runners();
    let cordon = |id: &str| Operation::Cordon(id.to_owned());
    let intents = press(&mut model, "ctrl-a C y");
    assert_eq!(operations(&intents), [cordon("r2"), cordon("r3"), cordon("r4")]);
    let intents = press(&mut model, "j L y");
    assert_eq!(operations(&intents), [Operation::Lift("r2".to_owned())]);
    let intents = press(&mut model, "j X y");
    assert_eq!(operations(&intents), [Operation::RemoveRunner("r3".to_owned())]);
}

#[test]
fn queues_are_paused_and_resumed_and_the_leader_is_changed() {
    let mut model = console(settings("queues", ""), SIZE, Fleet::Typical);
    let intents = press(&mut model, "p y");
    assert!(
        matches!(&operations(&intents)[..], [Operation::PauseQueue(name)] if name.project == "web")
    );
    let intents = press(&mut model, "G R y");
    assert!(
        matches!(&operations(&intents)[..], [Operation::ResumeQueue(name)] if name.project == "docs")
    );
    press(&mut model, "7");
    tell(&mut model, Fleet::Typical, 0);
    assert_eq!(operations(&press(&mut model, "T y")), [Operation::Transfer(1)]);
}

#[test]
fn a_role_that_may_only_read_is_offered_nothing_else() {
    for read_only in [false, true] {
        let settings = Settings { read_only, ..settings("jobs", "") };
        let mut model = console(settings, SIZE, Fleet::Typical);
        let answer = if read_only { admin() } else { WhoAmIResponse::default() };
        send(&mut model, Event::WhoAmI(answer), 1);
        let changes = Action::ALL.iter().filter(|action| action.method().is_some());
        assert!(changes.clone().all(|action| !model.offers(*action)));
        assert!(!screen(&model).contains("c cancel "), "{}", screen(&model));
        assert_eq!(acts(&press(&mut model, "space c y r y p y c")), []);
        let why =
            if read_only { "the console is read-only" } else { "your role does not allow it" };
        assert!(screen(&model).contains(why), "{}", screen(&model));
        press(&mut model, "?");
        assert!(screen(&model).contains("problems only"), "{}", screen(&model));
        assert!(!screen(&model).contains("cancel  "), "{}", screen(&model));
    }
}

#[test]
fn nothing_is_allowed_before_the_coordinator_has_said_so() {
    let mut model = Model::new(settings("jobs", ""), SIZE, at(0)).unwrap();
    tell(&mut model, Fleet::Typical, 0);
    assert_eq!(acts(&press(&mut model, "c y")), []);
}

#[test]
fn number_keys_and_commands_lead_to_screens_and_back() {
    let mut model = console(settings("fleet", ""), SIZE, Fleet::Typical);
    let intents = press(&mut model, "5");
    assert!(watched(&intents).fleet.runners && watched(&intents).fleet.overview);
    tell(&mut model, Fleet::Typical, 0);
    let intents = press(&mut model, "j enter");
    assert_eq!(watched(&intents).checks.as_deref(), Some("r2"));
    tell(&mut model, Fleet::Typical, 0);
    assert!(screen(&model).contains("Runners › Runner build-2"), "{}", screen(&model));
    let intents = press(&mut model, "-");
    assert!(watched(&intents).checks.is_none());
    let intents = press(&mut model, "l");
    assert_eq!(watched(&intents).checks.as_deref(), Some("r2"));
    let intents = press(&mut model, "h");
    assert!(watched(&intents).checks.is_none());
    let intents = press(&mut model, "3 4");
    assert_eq!(watched(&intents).job, None, "no job is known yet");
    assert!(screen(&model).contains("first choose a job"), "{}", screen(&model));
    tell(&mut model, Fleet::Typical, 0);
    let intents = press(&mut model, "j 4");
    assert_eq!(watched(&intents).job, Some(job(1)));
    press(&mut model, ": 'ev enter");
    assert!(screen(&model).contains("Events"), "{}", screen(&model));
    let intents = press(&mut model, ": 'jobs_dead enter");
    assert!(watched(&intents).fleet.jobs.as_ref().unwrap().dead_letters);
    press(&mut model, ": 'jab enter");
    assert!(screen(&model).contains("there is no screen or command `jab`"), "{}", screen(&model));
    assert_eq!(press(&mut model, "esc q"), [Intent::Quit]);
}

#[test]
fn a_screen_comes_back_as_it_was_left() {
    let mut model = jobs();
    press(&mut model, "j j 5 3");
    tell(&mut model, Fleet::Typical, 0);
    let selected = screen(&model).lines().find(|line| line.contains('▸')).unwrap().to_owned();
    assert!(selected.contains("leased"), "{selected}");
}

#[test]
fn sequences_and_pages_move_the_selection() {
    let mut model = runners();
    let selected = |model: &Model| {
        let line = screen(model).lines().find(|line| line.contains('▸')).unwrap().to_owned();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    press(&mut model, "G");
    assert_eq!(selected(&model), "mac-mini");
    press(&mut model, "g");
    assert!(screen(&model).lines().last().unwrap().contains(" g "), "{}", screen(&model));
    press(&mut model, "g");
    assert_eq!(selected(&model), "build-1");
    press(&mut model, "g j");
    assert_eq!(selected(&model), "build-2", "what is no sequence is its last key");
    press(&mut model, "ctrl-d N n");
    assert_eq!(selected(&model), "mac-mini");
}

#[test]
fn keys_are_those_of_the_file_also_in_what_is_shown() {
    let keys = KeyMap::parse("[keys]\ncancel = \"x\"\nhelp = [\"f1\"]").unwrap();
    let mut model = console(Settings { keys, ..settings("jobs", "") }, SIZE, Fleet::Typical);
    let footer = screen(&model).lines().last().unwrap().to_owned();
    assert!(footer.contains("x cancel") && footer.contains("f1 help"), "{footer}");
    assert_eq!(operations(&press(&mut model, "c x y")), [Operation::Cancel(job(0))]);
}

#[test]
fn ids_are_copied() {
    let mut model = jobs();
    assert_eq!(press(&mut model, "y"), [Intent::Copy(job(0))]);
    let both = Intent::Copy(format!("{}\n{}", job(0), job(1)));
    assert_eq!(press(&mut model, "space space y"), [both]);
}

#[test]
fn older_jobs_are_asked_for_at_the_end_of_the_list() {
    let mut model = console(settings("jobs", ""), SIZE, Fleet::Overloaded);
    let intents = press(&mut model, "G");
    assert!(matches!(&intents[..], [Intent::OlderJobs(..)]), "{intents:?}");
    assert_eq!(press(&mut model, "G"), []);
    learn(&mut model, News::NoPage("gone".to_owned()), 1);
    assert!(screen(&model).contains("no older ones: gone"));
    assert!(matches!(&press(&mut model, "G")[..], [Intent::OlderJobs(..)]));
}

#[test]
fn ctrl_c_leaves_whatever_is_open() {
    for keys in ["ctrl-c", ": 'abc ctrl-c", "? ctrl-c", "c ctrl-c"] {
        assert_eq!(press(&mut jobs(), keys), [Intent::Quit], "{keys}");
    }
}

#[test]
fn a_failing_job_is_found_and_a_stuck_one_cancelled_with_what_is_on_the_screen() {
    let mut model = console(settings("fleet", ""), SIZE, Fleet::Typical);
    assert!(screen(&model).contains("3 jobs"));
    press(&mut model, "3");
    tell(&mut model, Fleet::Typical, 0);
    assert!(screen(&model).contains("! problems only") && screen(&model).contains("c cancel"));
    press(&mut model, "!");
    tell(&mut model, Fleet::Typical, 0);
    press(&mut model, "j j j");
    assert!(screen(&model).contains("enter open"), "{}", screen(&model));
    let intents = press(&mut model, "enter");
    assert_eq!(watched(&intents).job, Some(job(3)));
}

#[test]
fn what_a_screen_cannot_show_is_told() {
    let refused = |screen: &str, argument: &str| {
        let settings = settings(screen, argument);
        Model::new(settings, SIZE, at(0)).err().expect("there is no such screen")
    };
    assert_eq!(refused("jab", ""), "there is no screen `jab`");
    assert_eq!(refused("job", ""), "the screen `job` needs to know which: job JOB");
    assert_eq!(refused("jobs", "state:odd"), "there is no state `odd`");
    assert_eq!(refused("fleet", "x"), "`fleet` takes no argument");
    let mut model = console(settings("jobs", "state:lost"), SIZE, Fleet::Typical);
    assert!(screen(&model).contains("Jobs state:lost"), "{}", screen(&model));
    press(&mut model, ": 'jobs_state:odd enter");
    assert!(screen(&model).contains("there is no state `odd`"), "{}", screen(&model));
    press(&mut model, "ctrl-u 'runners_mac enter");
    tell(&mut model, Fleet::Typical, 0);
    assert!(screen(&model).contains("Runners /mac"), "{}", screen(&model));
}
