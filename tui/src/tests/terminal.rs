//! The console in a real pseudo-terminal, as a terminal emulator shows it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::{Pid, setsid},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use super::{
    coordinator::{Answer, Coordinator, Script},
    fixtures::{Fleet, answer, settings},
};

const LIMIT: Duration = Duration::from_secs(60);

/// What runs in the pseudo-terminal: a console of an ordinary fleet. SIGUSR1 makes it panic.
#[test]
#[ignore = "it is what the other tests run in a terminal"]
fn console() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ended = runtime.block_on(async {
        let fleet = || Answer::Fleet(Box::new(answer(Fleet::Typical)));
        let watches = std::iter::repeat_with(fleet).take(20).collect();
        let script = Script { watches, ..Script::default() };
        let mut tasks = JoinSet::new();
        let endpoint = Coordinator(Arc::new(Mutex::new(script))).serve(&mut tasks).await;
        let mut panics = signal(SignalKind::user_defined1()).unwrap();
        tokio::select! {
            ended = crate::run(endpoint, settings("fleet", "")) => ended,
            _ = panics.recv() => panic!("it was told to"),
        }
    });
    println!("ended with {:?}", ended.unwrap());
}

static STARTING: Mutex<()> = Mutex::new(());

/// A console in a terminal, which ends with it.
struct Running {
    terminal: File,
    child: Child,
    screen: Arc<Screen>,
    reader: Option<JoinHandle<()>>,
}

/// What is on the screen, and a sign for whoever waits for a change of it.
struct Screen(Mutex<vt100::Parser>, Condvar);

fn winsize(columns: u16, lines: u16) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Running {
    fn start(columns: u16, lines: u16) -> Self {
        // What another test starts meanwhile must not get the ends of this terminal.
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let pty = openpty(Some(&winsize(columns, lines)), None).unwrap();
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let program = std::env::current_exe().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the console needs a terminal of its own")]
        let mut command = Command::new(program);
        // With one thread, nothing is said of a test that takes long.
        command.args(["--exact", "tests::terminal::console", "--ignored", "--nocapture"]);
        command.arg("--test-threads=1");
        command.env("RUST_BACKTRACE", "0").stdin(end()).stdout(end()).stderr(end());
        let become_leader = || {
            setsid()?;
            // SAFETY: a call that takes the number of an open file, and 0.
            match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: it makes two system calls, and allocates nothing.
        unsafe { command.pre_exec(become_leader) };
        let child = command.spawn().unwrap();
        // Reading ends when the child has gone, and nobody else has its end.
        drop((command, pty.slave));
        let terminal = File::from(pty.master);
        let parser = vt100::Parser::new(lines.try_into().unwrap(), columns.try_into().unwrap(), 0);
        let screen = Arc::new(Screen(Mutex::new(parser), Condvar::new()));
        let (mut output, seen) = (terminal.try_clone().unwrap(), Arc::clone(&screen));
        let read = move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                seen.0.lock().unwrap().process(&bytes[..count]);
                seen.1.notify_all();
            }
        };
        let reader = std::thread::Builder::new().name("terminal".to_owned()).spawn(read).unwrap();
        Self { terminal, child, screen, reader: Some(reader) }
    }

    fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, columns: u16, lines: u16) {
        let (rows, width) = (lines.try_into().unwrap(), columns.try_into().unwrap());
        self.screen.0.lock().unwrap().screen_mut().set_size(rows, width);
        let size = winsize(columns, lines);
        // SAFETY: the call reads the structure that it gets.
        let set =
            unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(set, 0);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until the screen is so; gives its text.
    fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let screen = self.screen.0.lock().unwrap();
        let waited = self
            .screen
            .1
            .wait_timeout_while(screen, LIMIT, |screen| !is_so(&screen.screen().contents()));
        let (screen, limit) = waited.unwrap();
        let text = screen.screen().contents();
        assert!(!limit.timed_out(), "{what} is not so:\n{text}");
        text
    }

    /// Waits for the end. The terminal must be as it was found.
    fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        // A terminal with nobody at its other end is told as an error by Linux, which ends it.
        self.reader.take().unwrap().join().unwrap();
        let parser = self.screen.0.lock().unwrap();
        let screen = parser.screen();
        let text = screen.contents();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{text}");
        assert!(!screen.bracketed_paste(), "{text}");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        let flags = tcgetattr(&self.terminal).unwrap().local_flags;
        assert!(flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
        (status, text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn a_terminal_shows_the_fleet_and_its_size_may_change() {
    let mut running = Running::start(80, 24);
    running.wait_for("the fleet", |text| text.contains("live") && text.contains("Alerts (2)"));
    running.press("3");
    let narrow =
        running.wait_for("jobs", |text| text.contains("live") && text.contains("train model"));
    assert!(!narrow.contains("Selected"));
    running.resize(120, 30);
    running.wait_for("details beside the list", |text| text.contains("Selected"));
    running.resize(40, 12);
    running.wait_for("a small screen", |text| {
        !text.contains("Selected") && text.contains("train model")
    });
    running.press("m");
    running.wait_for("the mouse", |text| text.contains("mouse on"));
    running.press("q");
    let (status, text) = running.end();
    assert!(status.success() && text.contains("ended with Quit"), "{text}");
}

#[test]
fn a_signal_ends_the_console_and_the_terminal_is_given_back() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let running = Running::start(80, 24);
        running.wait_for("the fleet", |text| text.contains("live"));
        running.signal(signal);
        let (status, text) = running.end();
        assert!(status.success(), "{text}");
        assert!(text.contains(&format!("ended with Signal({})", signal as i32)), "{text}");
    }
}

#[test]
fn what_a_panic_says_can_be_read() {
    let running = Running::start(80, 24);
    running.wait_for("the fleet", |text| text.contains("live"));
    running.signal(Signal::SIGUSR1);
    let (status, text) = running.end();
    assert!(!status.success() && status.signal().is_none(), "{status}");
    assert!(text.contains("it was told to"), "{text}");
}
