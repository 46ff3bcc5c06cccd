//! Who is connected to, and how a user logs in there.

use std::process::{Command, Stdio};

use baton_runner::executor::{
    Unready,
    ssh::{Address, Jump, TargetConfig, remote::Login},
};
use baton_tests::ssh::{Server, Way};

use crate::attempt::{Attempt, Target, config, executor, prepare, sh};

async fn refusal(target: TargetConfig) -> Unready {
    prepare(&executor([("t", target)], "t")).await.unwrap_err()
}

#[tokio::test]
async fn a_host_whose_key_is_not_known_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    std::fs::write(server.known_hosts(), "# nobody\n").unwrap();
    let unready = refusal(config(&server)).await;
    assert_eq!(unready.reason, "HOST_KEY");
    assert!(unready.message.contains("is not known: it shows ssh-ed25519 SHA256:"), "{unready}");
    assert!(unready.message.contains(server.known_hosts().to_str().unwrap()), "{unready}");
    assert!(!server.log().contains("Accepted"), "{}", server.log());
}

#[tokio::test]
async fn a_host_whose_key_has_changed_is_refused_in_clear_words() {
    let Some(server) = Server::start(&[]) else { return };
    let other = server.known_hosts_line("stranger");
    std::fs::write(server.known_hosts(), format!("# one\n{other}")).unwrap();
    let unready = refusal(config(&server)).await;
    assert_eq!(unready.reason, "HOST_KEY");
    let line = format!("{}:2", server.known_hosts().display());
    assert!(unready.message.contains("HAS CHANGED"), "{unready}");
    assert!(unready.message.contains(&line), "{unready}");
    assert!(!server.log().contains("Accepted"), "{}", server.log());
}

#[tokio::test]
async fn a_host_whose_key_is_revoked_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    let line = server.known_hosts_line("host");
    std::fs::write(server.known_hosts(), format!("{line}@revoked {line}")).unwrap();
    let unready = refusal(config(&server)).await;
    assert_eq!(unready.reason, "HOST_KEY");
    assert!(unready.message.contains("is revoked"), "{unready}");
}

#[tokio::test]
async fn a_known_key_of_another_kind_is_asked_for_first() {
    let Some(server) = Server::start(&[]) else { return };
    let host = server.let_in("ecdsa", "");
    let Some(server) = Server::start(&[format!("HostKey {}", host.display())]) else { return };
    let public = std::fs::read_to_string(host.with_extension("pub")).unwrap();
    let line = format!("[127.0.0.1]:{} {public}", server.port());
    std::fs::write(server.known_hosts(), line).unwrap();
    prepare(&executor([("t", config(&server))], "t")).await.unwrap();
}

#[tokio::test]
async fn a_key_that_the_server_does_not_take_is_named() {
    let Some(server) = Server::start(&[]) else { return };
    let key = server.strange_key();
    let target = TargetConfig { login: Login::Key(key.clone()), ..config(&server) };
    let unready = refusal(target).await;
    assert_eq!(unready.reason, "TARGET_LOGIN");
    assert!(unready.message.contains("the server does not take the key"), "{unready}");
    assert!(unready.message.contains(key.to_str().unwrap()), "{unready}");
}

#[tokio::test]
async fn a_key_that_cannot_be_used_says_what_to_do() {
    let Some(server) = Server::start(&[]) else { return };
    let encrypted = server.let_in("ed25519", "secret");
    for (key, problem) in [
        (encrypted, "is encrypted; give one that is not, or put it into an agent"),
        (server.path("nowhere"), "No such file"),
        (server.path("sshd_config"), "cannot read the key"),
    ] {
        let unready = refusal(TargetConfig { login: Login::Key(key), ..config(&server) }).await;
        assert_eq!(unready.reason, "TARGET");
        assert!(unready.message.contains(problem), "{unready}");
    }
}

#[tokio::test]
async fn every_usual_kind_of_key_logs_in() {
    let Some(server) = Server::start(&[]) else { return };
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let login = Login::Key(server.let_in(kind, ""));
        let executor = executor([("t", TargetConfig { login, ..config(&server) })], "t");
        let ready = prepare(&executor).await;
        assert!(ready.is_ok(), "{kind}: {ready:?}");
    }
}

#[tokio::test]
async fn an_agent_logs_in_with_the_key_that_the_server_takes() {
    let Some(server) = Server::start(&[]) else { return };
    let socket = server.path("agent");
    let mut agent = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let target = TargetConfig { login: Login::Agent(socket.clone()), ..config(&server) };
    let start = std::time::Instant::now();
    while !socket.exists() {
        assert!(start.elapsed() < baton_tests::wait::LIMIT, "the agent does not listen");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let empty = refusal(target.clone()).await;
    assert!(empty.message.contains("has no key; add one with ssh-add"), "{empty}");
    for key in [server.strange_key(), server.let_in("rsa", ""), server.key()] {
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).stderr(Stdio::null());
        assert!(add.status().unwrap().success());
    }
    let ready = prepare(&executor([("t", target)], "t")).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(ready.is_ok(), "{ready:?}");
}

#[tokio::test]
async fn a_target_that_nobody_answers_at_is_not_reached() {
    let Some(server) = Server::start(&[]) else { return };
    let mut target = config(&server);
    // Of a port that was free a moment ago, somebody else may have made use.
    target.address.port = 1;
    let unready = refusal(target).await;
    assert_eq!(unready.reason, "TARGET_UNREACHABLE", "{unready}");
    assert!(unready.transient && unready.message.contains("refused"), "{unready}");
}

#[tokio::test]
async fn a_job_runs_behind_a_jump_host_that_is_verified_too() {
    let Some(target) = Target::find().await else { return };
    let Some(jump) = Server::start(&[]) else { return };
    let way = Way::to(jump.port()).await;
    let mut gate = config(&jump);
    gate.address = Address { host: "127.0.0.1".to_owned(), port: way.port() };
    let mut behind = config(&target.server);
    behind.address.port = target.way.port();
    behind.jump = Some(Jump::Target("gate".to_owned()));
    let both = executor([("target", behind), ("gate", gate)], "target");

    let unready = prepare(&both).await.unwrap_err();
    assert_eq!(unready.reason, "HOST_KEY");
    let line = jump.known_hosts_line("host");
    let line = line.replace(&jump.port().to_string(), &way.port().to_string());
    std::fs::write(jump.known_hosts(), line).unwrap();

    let target = Target { executor: both, ..target };
    let (exit, log) = Attempt::run(&target, sh("echo there; exit 3")).await;
    assert_eq!(exit.status, baton_runner::executor::ExitStatus::Exited(3));
    assert_eq!(log.text(), "there\n");
    way.close();
    let unready = prepare(&target.executor).await.unwrap_err();
    assert_eq!(unready.reason, "TARGET_UNREACHABLE");
}
