//! [`Hook`]: the program that the owner wants run when something goes wrong, and when it is over.
//!
//! It runs beside the upkeep, one at a time and not for ever, without the caller's variables: a passphrase may be among them.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::trouble::{News, Trouble};
use crate::quantity::Moment;

/// How many runs may wait.
const WAITING_MAX: usize = 64;
/// How often is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What of the caller's variables it gets: what programs need to find their user's desktop and mail.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// The program, ready to be run.
pub(super) struct Hook {
    queue: Option<SyncSender<News>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// What the program reads: a line of JSON.
#[derive(Serialize)]
struct View<'a> {
    message_type: &'static str,
    #[serde(flatten)]
    trouble: &'a Trouble,
    time: Moment,
}

impl Hook {
    /// Has `program`, a path, run for all news, for `limit` at most; no program runs where its name is empty.
    pub(super) fn new(program: &str, limit: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        if program.is_empty() {
            return Self {
                queue: None,
                thread: None,
                stop,
            };
        }
        let (queue, news) = sync_channel(WAITING_MAX);
        let (program, stops) = (program.to_owned(), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("hook".to_owned())
            .spawn(move || run_all(&program, limit, &news, &stops));
        if let Err(error) = &thread {
            tracing::warn!(%error, "the hook cannot be run");
        }
        Self {
            queue: Some(queue),
            thread: thread.ok(),
            stop,
        }
    }

    /// Has it run; does not wait for it.
    pub(super) fn tell(&self, news: &News) {
        let Some(queue) = &self.queue else {
            return;
        };
        if let Err(TrySendError::Full(_)) = queue.try_send(news.clone()) {
            tracing::warn!("the hook is too slow: it is not run for this");
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // What waits is run still: news are told once, and the next process does not tell them again.
        self.queue = None;
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Some(thread) = &self.thread
            && !thread.is_finished()
        {
            if Instant::now() >= deadline {
                self.stop.store(true, Ordering::Relaxed);
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run_all(program: &str, limit: Duration, news: &Receiver<News>, stop: &AtomicBool) {
    while let Ok(news) = news.recv() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let ended = begin(program, &news).and_then(|mut child| wait(&mut child, limit, stop));
        match ended {
            Ok(None) => {}
            Ok(Some(how)) => tracing::warn!("the hook {how}"),
            Err(error) => tracing::warn!(%error, "the hook cannot be run"),
        }
    }
}

fn begin(program: &str, news: &News) -> std::io::Result<Child> {
    let (event, trouble) = match news {
        News::Begun(trouble) => ("trouble", trouble),
        News::Ended(trouble) => ("recovered", trouble),
    };
    let subject = &trouble.subject;
    let mut command = Command::new(program);
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let mut child = command
        .env("MAIMO_EVENT", event)
        .env("MAIMO_KIND", subject.kind.name())
        .env("MAIMO_CHANNEL", subject.channel.as_deref().unwrap_or(""))
        .env("MAIMO_PATH", subject.path.as_deref().unwrap_or(""))
        .env("MAIMO_MESSAGE", &trouble.message)
        .env("MAIMO_HINT", &trouble.hint)
        .env("MAIMO_SINCE", trouble.since.rfc3339())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // So that it can be ended with all that it has started.
        .process_group(0)
        .spawn()?;
    let view = View {
        message_type: event,
        trouble,
        time: super::super::now().into(),
    };
    if let (Some(mut stdin), Ok(mut line)) = (child.stdin.take(), serde_json::to_vec(&view)) {
        line.push(b'\n');
        // Short enough for a pipe to take it whole; whoever does not read it does not care.
        let _ = stdin.write_all(&line);
    }
    Ok(child)
}

/// Waits for its end, and returns how it ended if that was not well.
fn wait(child: &mut Child, limit: Duration, stop: &AtomicBool) -> std::io::Result<Option<String>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((!status.success()).then(|| format!("failed: {status}")));
        }
        if Instant::now() >= deadline || stop.load(Ordering::Relaxed) {
            let group = rustix::process::Pid::from_child(child);
            // It may just have ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            child.wait()?;
            return Ok(Some(format!("was ended after {limit:?}")));
        }
        thread::sleep(LOOK_EVERY);
    }
}
