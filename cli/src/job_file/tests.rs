//! Job files become what the same options become, and whoever made a mistake in one is
//! told where it is and what to write.

use std::path::Path;

use baton_client::source::{JobSource, SourceArg};
use baton_proto::v1;
use clap::{CommandFactory as _, Parser};

use super::*;
use crate::{
    environment::Environment,
    job_options::{Job, JobOptions},
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: JobOptions,
}

fn options(line: &str) -> JobOptions {
    Line::try_parse_from(format!("baton {line}").split_whitespace()).unwrap().options
}

/// The job of a file with `content`, in a folder of its own, and of options beside it.
fn job_of(content: &[u8], line: &str) -> Result<Job, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.yaml");
    std::fs::write(&path, content).unwrap();
    let environment = Environment::of([("HERE", "a=b"), ("BLANK", "")]);
    let job = options(&format!("-f {} {line}", path.display())).job(&environment);
    let job = job.map_err(|error| error.to_string());
    let shown = format!("{}/", folder.path().display());
    job.map_err(|error| error.replace(&shown, ""))
        .map(|job| Job { source: job.source.map(|source| strip(&source, folder.path())), ..job })
}

fn strip(source: &SourceArg, folder: &Path) -> SourceArg {
    let strip = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_owned();
    match source {
        SourceArg::Dir(path) => SourceArg::Dir(strip(path)),
        SourceArg::Archive(path) => SourceArg::Archive(strip(path)),
        SourceArg::StandardInput => SourceArg::StandardInput,
    }
}

fn spec(content: &str) -> v1::JobSpec {
    job_of(content.as_bytes(), "").unwrap_or_else(|error| panic!("{content}: {error}")).spec
}

fn refusal(content: &str, line: &str) -> String {
    job_of(content.as_bytes(), line).err().unwrap_or_else(|| panic!("{content} was taken"))
}

#[test]
fn a_field_says_what_its_option_says() {
    let table = [
        ("source: sub/tree", "--source sub/tree"),
        ("source: dir:a:b", "--source dir:a:b"),
        ("source: /abs", "--source /abs"),
        ("source: archive:a/b.tar", "--source archive:a/b.tar"),
        ("source: git:https://example.org/a#v1", "--source git:https://example.org/a#v1"),
        ("source: git:g@h:a\ngit_depth: 5", "--source git:g@h:a --git-depth 5"),
        ("source: git:g@h:a\ngit_lfs: true", "--source git:g@h:a --git-lfs"),
        ("source: git:g@h:a\ngit_no_submodules: true", "--source git:g@h:a --git-no-submodules"),
        ("source: git:g@h:a\ngit_no_submodules: false", "--source git:g@h:a"),
        ("source: workspace:a/b", "--source workspace:a/b"),
        ("labels: [gpu, os=linux]", "-l gpu -l os=linux"),
        ("labels:\n- gpu", "--label gpu"),
        ("labels: []", ""),
        ("env: {A: 1, B: '', C: 1.10, D: yes, E: a=b}", "-e A=1 -e B= -e C=1.10 -e D=yes -e E=a=b"),
        ("env: {HERE: , BLANK: null}", "-e HERE -e BLANK"),
        ("env: {A: 1, B: 2}\nmasks: [A, B]", "-e A=1 -e B=2 --mask A --mask B"),
        (
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "--traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("project: p", "--project p"),
        ("name: 2.50", "--name 2.50"),
        ("priority: -5", "--priority -5"),
        ("soft_timeout: 2h", "--soft-timeout 2h"),
        ("timeout: 10m", "--timeout 10m"),
        ("timeout: 1h 30m", "--timeout 1h30m"),
        ("queue_timeout: 2s", "--queue-timeout 2s"),
        ("attempts: 2", "--attempts 2"),
        ("attempts: \"2\"", "--attempts 2"),
        ("on_lost: requeue", "--on-lost requeue"),
        ("on_lost: fail", "--on-lost fail"),
        ("on_lost: wait", "--on-lost wait"),
        ("output_limit: 10MiB", "--output-limit 10MiB"),
        ("output_limit: 4096", "--output-limit 4096"),
        ("idempotency_key: k-1", "--idempotency-key k-1"),
        ("executor: local", "--executor local"),
        ("image: debian:12\npull: never", "--image debian:12 --pull never"),
        ("image: a\nentrypoint: sh\nuser: 7:8", "--image a --entrypoint sh --user 7:8"),
        ("image: a\nnetwork: none", "--image a --network none"),
        ("image: a\nmounts: ['/a:/b:ro', '/c:/d']", "--image a --mount /a:/b:ro --mount /c:/d"),
        ("image: a\ntmpfs: ['/run:1MiB']", "--image a --tmpfs /run:1MiB"),
        ("image: a\nservices: {db: {image: pg}}", "--image a --service db=pg"),
        ("target: web-1", "--executor ssh --target web-1"),
        ("cpus: 1.50", "--cpus 1.5"),
        ("memory: 512MiB", "--memory 512MiB"),
        ("artifacts: [out, '**/*.xml']", "--artifact out --artifact **/*.xml"),
        (
            "inputs: [01JDXA2VPZ1QVTM1T8Q8Z9C5XW, '01JDXA2VPZ1QVTM1T8Q8Z9C5XW:a/b']",
            "--input 01JDXA2VPZ1QVTM1T8Q8Z9C5XW --input 01JDXA2VPZ1QVTM1T8Q8Z9C5XW:a/b",
        ),
        ("artifacts: [a]\nartifact_when: always", "--artifact a --artifact-when always"),
        (
            "caches: ['k-{hash:a.lock}=b,c']\ncache_fallbacks: [k-]",
            "--cache k-{hash:a.lock}=b,c --cache-fallback k-",
        ),
        ("processes: 10\nopen_files: 64", "--processes 10 --open-files 64"),
    ];
    let environment = Environment::of([("HERE", "a=b"), ("BLANK", "")]);
    for (field, line) in table {
        let from_file = job_of(format!("command: [true, x]\n{field}\n").as_bytes(), "");
        let from_file = from_file.unwrap_or_else(|error| panic!("{field}: {error}"));
        let given = options(&format!("{line} -- true x")).job(&environment).unwrap();
        assert_eq!(from_file.spec, given.spec, "{field}");
        assert_eq!(from_file.source, given.source, "{field}");
        assert_eq!(from_file.idempotency_key, given.idempotency_key, "{field}");
    }
}

#[test]
fn every_option_has_a_field_and_the_guide_has_both() {
    let told = refusal("command: [x]\nwhen: now", "");
    let (_, fields) = told.split_once("there are ").unwrap();
    let fields: Vec<_> = fields.split(", ").collect();
    let command = Line::command();
    let long = command.get_arguments().filter_map(clap::Arg::get_long);
    for option in long.filter(|long| *long != "file") {
        let field = match option {
            "label" | "mask" | "mount" | "service" | "artifact" | "input" | "cache"
            | "cache-fallback" => {
                format!("{}s", option.replace('-', "_"))
            }
            _ => option.replace('-', "_"),
        };
        assert!(fields.contains(&field.as_str()), "{option}: {fields:?}");
    }
    let guide = include_str!("../../../docs/guide.md");
    let (_, table) = guide.split_once("| field | type |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    for field in fields {
        assert!(table.contains(&format!("`{field}`")), "{field} is not in the guide");
    }
}

#[test]
fn words_and_values_stay_as_they_are_written() {
    let words = spec("command: [echo, 010, 1.50, yes, 1e3, 'null', \"~\", -5, 0x10]").command;
    assert_eq!(words, ["echo", "010", "1.50", "yes", "1e3", "null", "~", "-5", "0x10"]);
}

#[test]
fn a_script_is_a_text_for_the_shell() {
    let spec = spec("script: |\n  make\n  make test\n");
    assert_eq!(spec.command, ["sh", "-ceu", "make\nmake test\n"]);
}

#[test]
fn json_is_taken_with_tabs_escapes_and_large_numbers() {
    let spec = spec(
        "{\n\t\"command\":[\"echo\",\"\\u00e9\\ud83d\\ude00\\/\\n\"],\n\t\"env\": {\n\t\t\"N\": \
         123456789012345678901234567890,\n\t\t\"T\":true\n\t},\r\n\t\"timeout\":\"10m\"\n}\n",
    );
    assert_eq!(spec.command, ["echo", "é😀/\n"]);
    assert_eq!(spec.env["N"], "123456789012345678901234567890");
    assert_eq!(spec.env["T"], "true");
    assert_eq!(spec.timeout.unwrap().seconds, 600);
}

#[test]
fn a_byte_order_mark_and_comments_are_no_content() {
    assert_eq!(spec("\u{feff}# a job\n---\ncommand: [true]  # it\n...\n").command, ["true"]);
}

#[test]
fn a_source_starts_from_the_folder_of_the_file() {
    let source = |text: &str| job_of(format!("command: [x]\nsource: {text}").as_bytes(), "");
    let source = |text: &str| source(text).unwrap().source.unwrap();
    for (given, found) in [(".", ""), ("./a", "a"), ("../a", "../a"), ("/a", "/a")] {
        assert_eq!(source(given), SourceArg::Dir(found.into()), "{given}");
    }
    let document = |folder: &str, text: &str| {
        Document::of("job.yaml".to_owned(), folder.into(), text.as_bytes()).unwrap()
    };
    let mut bare = options("-f job.yaml");
    fill_from(&mut bare, &document("", "command: [x]\nsource: .")).unwrap();
    let job = bare.source.unwrap();
    assert_eq!(job, JobSource::Sent(SourceArg::Dir(".".into())));
}

#[test]
fn options_win_over_the_file_and_variables_are_taken_one_by_one() {
    let file = "command: [a, b]\nsource: s\nlabels: [gpu]\nenv: {A: 1, B: 2, GONE: }\n\
                project: p\nname: n\npriority: 1\nsoft_timeout: 1m\ntimeout: 2m\nqueue_timeout: 3m\n\
                attempts: 1\non_lost: fail\noutput_limit: 1KiB\nidempotency_key: k\n";
    let line = "--source /t -l os=linux -e B=3 -e C=4 -e GONE=5 --project q --name m --priority 0 \
                --soft-timeout 4m --timeout 5m --queue-timeout 6m --attempts 2 --on-lost requeue \
                --output-limit 2KiB --idempotency-key l -- c d";
    let job = job_of(file.as_bytes(), line).unwrap();
    let line = line.replace("-e B=3", "-e A=1 -e B=3");
    let given = options(&line).job(&Environment::default()).unwrap();
    assert_eq!(job.spec, given.spec);
    assert_eq!((job.source, job.idempotency_key), (given.source, given.idempotency_key));
    let replaced = job_of(b"script: exit 1", "-- true").unwrap();
    assert_eq!(replaced.spec.command, ["true"]);
    assert_eq!(job_of(b"name: n", "-- true").unwrap().spec.command, ["true"]);
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_to_write() {
    let long = format!("command: [x]\nname: {}", "n".repeat(201));
    let table = [
        ("comand: [x]", "job.yaml:1:1: comand: there is no such field; write command"),
        (
            "command: [x]\nsoft-timeout: 1m",
            "job.yaml:2:1: soft-timeout: there is no such field; write soft_timeout",
        ),
        (
            "command: [x]\nenvironment: {}",
            "job.yaml:2:1: environment: there is no such field; write env",
        ),
        (
            "command: [x]\nwhen: now",
            "job.yaml:2:1: when: there is no such field; there are command, script, source, ",
        ),
        (
            "{\"command\": [\"x\"], \"lable\": []}",
            "job.yaml:1:20: lable: there is no such field; write labels",
        ),
        (
            "command: make test",
            "job.yaml:1:1: command: must be a list such as [ONE, TWO], and not \"make test\"; a text for the shell is a `script`",
        ),
        (
            "command: {a: b}",
            "job.yaml:1:10: command: must be a list such as [ONE, TWO], and not a map",
        ),
        ("command:", "job.yaml:1:1: command: must be a list such as [ONE, TWO], and not nothing"),
        (
            "command: [a, b: c]",
            "job.yaml:1:14: command: must be a text here, and not a list or a map",
        ),
        (
            "command: [a, null]",
            "job.yaml:1:14: command: there is no value; write one, with quotes if it is null, ~ or empty, or leave the field out",
        ),
        (
            "command: [x]\nname: [a]",
            "job.yaml:2:7: name: must be a text here, and not a list or a map",
        ),
        ("command: [x]\ntimeout:\nname: n", "job.yaml:2:8: timeout: there is no value; write one"),
        (
            "command: [x]\nlabels: gpu",
            "job.yaml:2:1: labels: must be a list such as [ONE, TWO], and not \"gpu\"",
        ),
        (
            "command: [x]\nenv: [A=1]",
            "job.yaml:2:1: env: must be variables such as {NAME: VALUE}, and not a list",
        ),
        (
            "command: [x]\nenv: {A: [1]}",
            "job.yaml:2:10: env: must be a text here, and not a list or a map",
        ),
        (
            "command: [x]\nenv: {MISSING: }",
            "job.yaml:2:7: env: MISSING is not set here; set it, or give a value, which may be empty",
        ),
        (
            "command: [x]\nname: a\nname: b",
            "job.yaml:3:1: name: is there twice; leave one of them out",
        ),
        (
            "{\"command\": [\"x\"], \"env\": {\"A\": 1, \"A\": 2}}",
            "job.yaml:1:36: A: is there twice; leave one of them out",
        ),
        (
            "command: [x]\ntimeout: 10 parsecs",
            "job.yaml:2:10: timeout: \"10 parsecs\": not a time such as 90s, 25m or 2h",
        ),
        (
            "command: [x]\nqueue_timeout: 10",
            "job.yaml:2:16: queue_timeout: \"10\": not a time such as 90s, 25m or 2h",
        ),
        (
            "command: [x]\nsoft_timeout: -1s",
            "job.yaml:2:15: soft_timeout: \"-1s\": not a time such as 90s, 25m or 2h",
        ),
        (
            "command: [x]\npriority: high",
            "job.yaml:2:11: priority: \"high\": not a whole number from -100 to 100",
        ),
        (
            "command: [x]\npriority: 99999999999999999999",
            "job.yaml:2:11: priority: \"99999999999999999999\": not a whole number from -100 to 100",
        ),
        (
            "command: [x]\nattempts: 0",
            "job.yaml:2:11: attempts: \"0\": not a whole number from 1 to 100",
        ),
        (
            "command: [x]\nattempts: 1.5",
            "job.yaml:2:11: attempts: \"1.5\": not a whole number from 1 to 100",
        ),
        (
            "command: [x]\non_lost: retry",
            "job.yaml:2:10: on_lost: \"retry\": must be requeue, fail or wait",
        ),
        (
            "command: [x]\noutput_limit: 10X",
            "job.yaml:2:15: output_limit: \"10X\": `X` is no unit; take B, KiB, MiB or GiB",
        ),
        (
            "command: [x]\noutput_limit: 0",
            "job.yaml:2:15: output_limit: \"0\": must be at least 1 byte",
        ),
        (
            "command: [x]\nsource: git:x",
            "job.yaml:2:9: source: must be a URL such as https://HOST/PATH, or USER@HOST:PATH; for a folder file:///PATH",
        ),
        (
            "command: [x]\nsource: git:g@h:a\ngit_depth: 0",
            "job.yaml:3:12: git_depth: \"0\": not a whole number from 1 to 1000000",
        ),
        (
            "command: [x]\nsource: git:g@h:a\ngit_depth: 1000001",
            "job.yaml:3:12: git_depth: must be at most 1000000",
        ),
        (
            "command: [x]\nsource: git:g@h:a\ngit_lfs: yes",
            "job.yaml:3:10: git_lfs: \"yes\": must be true or false",
        ),
        (
            "command: [x]\nsource: workspace:/a",
            "job.yaml:2:9: source: must be relative to the runner's `workspaces` folder",
        ),
        (
            "command: [x]\nsource: ''",
            "job.yaml:2:9: source: \"\": a source needs a path: write PATH, dir:PATH, archive:FILE, git:URL#REF or workspace:PATH",
        ),
        (
            "command: [x]\nidempotency_key: ''",
            "job.yaml:2:18: idempotency_key: \"\": must be 1 to 128 bytes without control characters",
        ),
        (
            "command: [x]\nscript: x",
            "job.yaml:2:9: script: there is a `command` too; leave one of them out",
        ),
        ("script: ' '", "job.yaml:1:9: script: is empty; write what to run"),
        (
            "name: n",
            "job.yaml: says not what to run; write `command: [PROGRAM, ARGUMENT]` or `script: TEXT`, or give a command after --",
        ),
        ("# nothing", "job.yaml"),
        ("command: []", "job.yaml:1:10: command: must name a program"),
        ("command: ['']", "job.yaml:1:10: command: the program's name must not be empty"),
        ("command: [x]\nlabels: ['a b']", "job.yaml:2:9: labels: \"a b\" must be 1 to 128 of"),
        (
            "command: [x]\nenv:\n  OK: 1\n  BATON_X: 1",
            "job.yaml:4:3: env: BATON_X: BATON_ is reserved",
        ),
        ("command: [x]\nenv:\n  A=B: 1", "job.yaml:3:3: env: \"A=B\" is no name of a variable"),
        ("command: [x]\nproject: A", "job.yaml:2:10: project: must be at most 63 of"),
        (&long, "job.yaml:2:7: name: must be at most 200 bytes"),
        ("command: [x]\npriority: 101", "job.yaml:2:11: priority: must be from -100 to 100"),
        ("command: [x]\nattempts: 101", "job.yaml:2:11: attempts: must be at most 100"),
        (
            "command: [x]\noutput_limit: 17GiB",
            "job.yaml:2:15: output_limit: must be at most 16 GiB",
        ),
        ("command: [x]\ntimeout: 0s", "job.yaml:2:10: timeout: must be from 1 ms to 365 days"),
        (
            "command: [x]\ntimeout: 1s\nsoft_timeout: 2s",
            "job.yaml:3:15: soft_timeout: must not be longer than the timeout",
        ),
        (
            "command: [x]\nsoft_timeout: 366d",
            "job.yaml:2:15: soft_timeout: must be from 1 ms to 365 days",
        ),
        (
            "command: [x]\nqueue_timeout: 0s",
            "job.yaml:2:16: queue_timeout: must be from 1 ms to 365 days",
        ),
        ("- command", "job.yaml:1:1: must be fields such as `command: [PROGRAM, ARGUMENT]`"),
        ("make test", "job.yaml:1:1: must be fields such as `command: [PROGRAM, ARGUMENT]`"),
        (
            "command: [x]\n---\ncommand: [y]",
            "job.yaml:3:1: a second document begins; write each job to a file of its own",
        ),
        ("command:\n\t- x", "job.yaml:2:1: a tab where YAML takes none; indent with spaces"),
        ("env:\n  A: 1\n\tB: 2", "job.yaml:3:1: a tab where YAML takes none; indent with spaces"),
        (
            "script: echo a: b",
            "job.yaml:1:15: neither YAML nor JSON: mapping values are not allowed in this context; put a text that has `: ` in it in quotes, or on lines of its own after |",
        ),
        (
            "command: [@x]",
            "job.yaml:1:11: neither YAML nor JSON: unexpected character: `@'; put a text with it in quotes",
        ),
        ("command: [x", "job.yaml:1:10: neither YAML nor JSON: unclosed bracket"),
        (
            "command: [rm, *.o]",
            "job.yaml:1:15: job files have no anchors and aliases; put a text that begins with & or * in quotes",
        ),
        ("command: &c [x]", "job.yaml:1:13: job files have no anchors and aliases; put"),
        (
            "command: [test, ! -e x]",
            "job.yaml:1:19: command: job files have no tags; put a text that begins with ! in quotes",
        ),
        (
            "command: [x]\nname: !secret n",
            "job.yaml:2:15: name: job files have no tags; put a text that begins with ! in quotes",
        ),
        (
            "command: [x]\nenv:\n  <<: {A: 1}",
            "job.yaml:3:3: job files have no merge keys; write out what << stands for",
        ),
        ("  \n", "job.yaml: is empty; write at least `command: [PROGRAM, ARGUMENT]`"),
    ];
    let mut wrong = String::new();
    for (content, told) in table {
        let error = refusal(content, "");
        if !error.starts_with(told) || error.contains('\n') {
            wrong.push_str(&format!("{content:?}\n  gives    {error}\n  and not  {told}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_mistake_in_an_option_is_the_options_and_one_in_the_file_stays_one() {
    let file = "command: [x]\nsoft_timeout: 50m\nenv: {B: 1}";
    for (line, told) in [
        ("--timeout 0s", "--timeout: "),
        ("--timeout 1m", "job.yaml:2:15: soft_timeout: must not be longer"),
        ("--priority 101", "--priority: "),
        ("-e BATON_B=1", "--env: BATON_B: "),
        ("-e NONE", "--env: NONE is not set here"),
    ] {
        let error = refusal(file, line);
        assert!(error.starts_with(told), "{line}: {error}");
    }
    let file = "command: [x]\nsource: git:g@h:a\ngit_depth: 1";
    assert!(job_of(file.as_bytes(), "--source .").is_ok());
    let error = refusal("command: [x]\nsource: .\ngit_depth: 1", "");
    assert!(error.starts_with("job.yaml:3:12: git_depth: is for a source such as git:"), "{error}");
    let error = refusal("command: [x]\nattempts: none", "--attempts 3");
    assert!(error.starts_with("job.yaml:2:11: attempts: "), "{error}");
}

#[test]
fn what_is_no_text_is_refused() {
    let told = |content: &[u8]| job_of(content, "").err().unwrap();
    assert_eq!(told(b"a: b\nc: \xff"), "job.yaml:2:4: not UTF-8; save the file as UTF-8");
    assert!(told(b"\xff\xfea\0").starts_with("job.yaml:1:1: not UTF-8"));
    let large = vec![b'#'; (1 << 20) + 1];
    assert!(told(&large).starts_with("job.yaml: larger than 1 MiB"), "{}", told(&large));
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.yaml");
    let told = |path: &Path| Document::read(path).unwrap_err().to_string();
    assert!(told(folder.path()).ends_with(": is a folder; name the job file in it"));
    let missing = told(&missing);
    assert!(missing.starts_with("cannot read the job file ") && missing.contains("No such file"));
}

#[test]
fn no_file_takes_long_or_much_memory() {
    let nested = |open: &str| format!("command: {}", open.repeat(200_000));
    let wide = format!("command: [{}x]", "x, ".repeat(300_000));
    let deep = (0..50_000).fold(String::from("env:\n"), |text, _| text + "- ");
    let bomb = "env:\n  A: &a [x, x, x, x, x, x, x, x, x]\n  B: &b [*a, *a, *a, *a, *a, *a, *a]\n  \
                C: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n  D: [*c, *c, *c, *c, *c, *c, *c, *c]\n";
    for content in [&nested("["), &nested("{a: "), &nested("{? "), &wide, &deep, bomb] {
        let error = refusal(content, "");
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn what_a_person_wrote_moves_no_cursor_and_fills_no_screen() {
    for content in [
        format!("command: [x]\ntimeout: {}", "9".repeat(100_000)),
        format!("command: {}", "x".repeat(100_000)),
        "command: [x]\ntimeout: \"\\e[31m\"".to_owned(),
        "command: [x]\n\"\\e[31m\": 1".to_owned(),
        format!("command: [x]\n\"{}\": 1", "y".repeat(900)),
    ] {
        let error = refusal(&content, "");
        assert!(error.len() < 500 && !error.contains('\u{1b}'), "{error}");
    }
}
