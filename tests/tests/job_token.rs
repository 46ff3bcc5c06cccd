//! What a job may do with the token that it is given, and until when.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock to give up")]

use std::{path::Path, process::Output};

use baton_client::Endpoint;
use baton_proto::{
    error::{ApiError, Reason},
    v1,
};
use baton_tests::{
    cluster::Cluster,
    fleet::{Fleet, code, text},
    wait,
};
use tonic::Status;

/// Tells its token by a file, since its output does not, asks, and waits for another file.
const JOB: &str = r#"
printf %s "$BATON_TOKEN" >token.new && mv token.new "$FOLDER/token"
echo "it is $BATON_TOKEN"
"$CLI" jobs show "$BATON_JOB_ID" -o json >"$FOLDER/shown" || exit 1
"$CLI" jobs why "$BATON_JOB_ID" || exit 2
"$CLI" logs "$BATON_JOB_ID" >/dev/null || exit 3
"$CLI" jobs artifacts "$INPUT" >"$FOLDER/artifacts" || exit 4
no() { "$CLI" "$@" >"$FOLDER/refused" 2>&1; [ $? = 121 ] && grep -q 'does not allow' "$FOLDER/refused"; }
no jobs list || exit 5
no jobs show "$INPUT" || exit 6
no jobs show "$OTHER" || exit 7
no jobs artifacts "$OTHER" || exit 8
no logs "$INPUT" || exit 9
no jobs cancel "$BATON_JOB_ID" || exit 10
no submit -- true || exit 11
no runners list || exit 12
no cluster status || exit 13
"#;

async fn submit(fleet: &Fleet, args: &[&str]) -> String {
    let submitted = fleet.baton(&[&["submit"], args].concat()).await;
    assert_eq!(code(&submitted), Some(0), "{}", text(&submitted.stderr));
    text(&submitted.stdout).trim().to_owned()
}

async fn with_token(fleet: &Fleet, token: &str, args: &[&str]) -> Output {
    let mut command = fleet.command(args);
    command.env("BATON_TOKEN", token);
    let run = tokio::task::spawn_blocking(move || command.output());
    wait::within("a command to end", run).await.unwrap().unwrap()
}

fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => holds(&entry.path(), text),
        Ok(kind) if kind.is_file() => std::fs::read(entry.path())
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes())),
        _ => false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_asks_about_itself_and_its_inputs_and_nothing_else_while_it_runs() {
    let fleet = Fleet::with_runner(1).await;
    let keeping = ["--artifact", "a.txt", "--", "sh", "-c", "echo a >a.txt"];
    let (input, other) = (submit(&fleet, &keeping).await, submit(&fleet, &keeping).await);
    for job in [&input, &other] {
        assert_eq!(code(&fleet.baton(&["jobs", "wait", job]).await), Some(0));
    }
    let cli = fleet.command(&[]).get_program().to_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        format!("CLI={cli}"),
        format!("FOLDER={}", folder.path().display()),
        format!("INPUT={input}"),
        format!("OTHER={other}"),
    ];
    let mut args: Vec<&str> = variables.iter().flat_map(|it| ["-e", it]).collect();
    args.extend(["--input", &input, "--", "sh", "-c", JOB]);
    let job = submit(&fleet, &args).await;
    let waited = fleet.baton(&["jobs", "wait", &job]).await;
    let refused = std::fs::read_to_string(folder.path().join("refused")).unwrap_or_default();
    let output = fleet.baton(&["logs", &job]).await;
    assert_eq!(code(&waited), Some(0), "{refused}{}", text(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("shown").contains(&job), "it is its own record");
    assert!(read("artifacts").contains("a.txt"), "{}", read("artifacts"));

    let token = read("token");
    assert!(token.starts_with(&format!("bj_{job}_")), "{token}");
    assert!(text(&output.stdout).contains("it is ***\n"), "{}", text(&output.stdout));
    for args in [&["jobs", "show", &job, "-o", "json"][..], &["jobs", "list", "-o", "json"]] {
        assert!(!text(&fleet.baton(args).await.stdout).contains(&token), "{args:?}");
    }
    assert!(!holds(fleet.folder(), &token), "it is on a disk");
    let show = ["jobs", "show", &job];
    let ended = with_token(&fleet, &token, &show).await;
    let wrong = with_token(&fleet, "nothing", &show).await;
    assert_eq!(code(&ended), code(&wrong));
    assert_eq!(text(&ended.stderr), text(&wrong.stderr), "as any wrong one");
    assert!(text(&ended.stderr).contains("the token is missing or wrong"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_coordinator_knows_the_token_of_a_job_and_no_longer_than_the_leader() {
    let cluster = Cluster::start(3, 1).await;
    let file = cluster.folder().join("token");
    let script = "printf %s $BATON_TOKEN >token && mv token $FILE && exec sleep 600";
    let variable = format!("FILE={}", file.display());
    let submitted = cluster.baton(&["submit", "-e", &variable, "--", "sh", "-c", script]).await;
    let job_id = text(&submitted.stdout).trim().to_owned();
    let token = wait::until("the job to tell", async || std::fs::read_to_string(&file).ok()).await;
    let get = || v1::GetJobRequest { job_id: job_id.clone() };
    let reason = |status: &Status| ApiError::from_status(status).map(|error| error.reason);
    let mut connections = Vec::new();
    for node in 1..=3 {
        let endpoint = Endpoint::new(&cluster.address_of(node), &token).unwrap();
        let connection = baton_client::Connection::connect(endpoint, wait::LIMIT).await.unwrap();
        let got = connection.jobs().get(get()).await.unwrap().into_inner();
        assert_eq!(got.job.unwrap().id, job_id);
        let denied = [
            connection.jobs().list(v1::ListJobsRequest::default()).await.map(drop),
            connection.runners().list(v1::ListRunnersRequest::default()).await.map(drop),
            // Which this one answers itself.
            connection.cluster().status(v1::ClusterStatusRequest {}).await.map(drop),
        ];
        for denied in denied {
            assert_eq!(reason(&denied.unwrap_err()), Some(Reason::PermissionDenied), "{node}");
        }
        connections.push(connection);
    }
    assert_eq!(code(&cluster.baton(&["jobs", "cancel", &job_id]).await), Some(0));
    cluster.baton(&["jobs", "wait", &job_id]).await;
    for connection in connections {
        let refused = connection.jobs().get(get()).await.unwrap_err();
        assert_eq!(reason(&refused), Some(Reason::Unauthenticated), "{}", connection.address());
    }
}
