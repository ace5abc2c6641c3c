//! The end of the socket that the node has.

use std::{
    io::{self, Read as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use maimo_client::progress::{Control, Event};

use super::{
    Request,
    frame::{self, Kind, REQUEST_BYTES_MAX, Told},
};
use crate::{
    commands,
    config::Config,
    context::{Context, Guest},
    control::{self, PathBytes, Served, is_timeout},
    daemon::{Owner, Task},
    error::{CommandError, ErrorText, Exit},
    network::Network,
    places::Places,
    ui::{Far, Link, Ui},
};

/// How many commands are served at a time; most of them wait.
const COMMANDS_MAX: usize = 64;
/// How long a command may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often counts are told, and whether all is over is looked at.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// The longest line or text that is sent, in bytes.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// What commands are done with.
pub(crate) struct Host {
    pub(crate) owner: Owner,
    pub(crate) config: Config,
    pub(crate) places: Places,
    pub(crate) network: Arc<Network>,
    pub(crate) ui: Ui,
}

/// Serves the commands of the store's owner at `path`, on threads of its own. The caller has the client's home.
///
/// # Errors
///
/// The socket cannot be made.
pub(crate) fn serve(host: Host, path: &Path) -> io::Result<Served> {
    control::listen(path, COMMANDS_MAX, move |stream, _| {
        if let Err(error) = answer(&stream, &host) {
            tracing::debug!(kind = ?error.kind(), "a command was not heard to its end");
        }
    })
}

fn answer(stream: &UnixStream, host: &Host) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let first = frame::read(&mut &*stream, REQUEST_BYTES_MAX, &|| false)?;
    let frames = Arc::new(Frames {
        stream: Mutex::new(Writer {
            stream: stream.try_clone()?,
            counts: None,
            told: Instant::now(),
        }),
        link: host.ui.link().clone(),
    });
    let bytes = match first {
        Some((Kind::Request, bytes)) => bytes,
        Some((Kind::Stop, _)) => return frames.tell(&Told::Heard),
        _ => return Ok(()),
    };
    let Ok(request) = serde_json::from_slice::<Request>(&bytes) else {
        let error = CommandError::new(
            Exit::Failed,
            "bug",
            "the node that runs here does not know this command",
        )
        .hint("is it of another version of Maimo? start it again");
        return frames.tell(&Told::End(Some(ErrorText::of(&error))));
    };
    drop(bytes);
    let Some(what) = request.command.of_store() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    frames.tell(&Told::Heard)?;
    let hears = Arc::clone(&frames);
    let task = Task::new(&what, move |event| hears.event(event));
    let watched = watch(stream, &frames, &task)?;
    let ended = run(request, host, &frames, task);
    let error = ended.err().filter(|error| !error.is_quiet());
    frames.tell(&Told::End(error.as_ref().map(ErrorText::of)))?;
    stream.shutdown(Shutdown::Both)?;
    watched.over.store(true, Ordering::Relaxed);
    Ok(())
}

fn run(
    request: Request,
    host: &Host,
    frames: &Arc<Frames>,
    task: Task,
) -> Result<(), CommandError> {
    let Request { command, rest } = request;
    rest.show_times();
    let far = Arc::new(There {
        frames: Arc::clone(frames),
        control: task.control().clone(),
    });
    let ui = host.ui.far(far, rest.outputs);
    rest.warn(&host.config, &ui, &host.places.home);
    let ctx = Context {
        config: rest.config(&host.config),
        places: host.places.clone(),
        network: Arc::clone(&host.network),
        folder: rest.folder(),
        guest: Some(Guest {
            owner: host.owner.clone(),
            task,
        }),
        ui,
    };
    let report = commands::run(&command, &ctx)?;
    ctx.ui.report(&*report)
}

/// What looks after a command while it is done.
struct Watched {
    over: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Cancels a task when its command says so or is gone; and tells on what was not told at once.
fn watch(stream: &UnixStream, frames: &Arc<Frames>, task: &Task) -> io::Result<Watched> {
    let mut reads = stream.try_clone()?;
    reads.set_read_timeout(Some(TELL_EVERY))?;
    let over = Arc::<AtomicBool>::default();
    let (ends, frames) = (Arc::clone(&over), Arc::downgrade(frames));
    let control = task.control().clone();
    let watches = move || {
        let mut link = Told::Link(None, None);
        while !ends.load(Ordering::Relaxed) {
            let mut byte = [0];
            match reads.read(&mut byte) {
                Err(error) if is_timeout(&error) => {}
                // Nothing but the wish to stop comes after a request; nothing at all means that it is gone.
                Ok(_) | Err(_) => {
                    control.cancel();
                    break;
                }
            }
            tell_on(&frames, &mut link);
        }
    };
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(watches)?;
    Ok(Watched { over })
}

/// Tells the counts that were held back, and how the network stands if that changed.
fn tell_on(frames: &Weak<Frames>, before: &mut Told) {
    let Some(frames) = frames.upgrade() else {
        return;
    };
    let mut writer = frames.lock();
    let _ = writer.counts_now();
    let (tor, circuits) = (frames.link.connecting(), frames.link.circuits());
    let now = Told::Link(tor.map(|tor| tor.percent), circuits);
    let is_same = matches!(
        (&*before, &now),
        (Told::Link(a, b), Told::Link(c, d)) if a == c && b == d
    );
    if !is_same {
        let _ = frame::tell(&mut writer.stream, &now);
        *before = now;
    }
}

/// The way back to a command, for all that write to it.
struct Frames {
    stream: Mutex<Writer>,
    link: Link,
}

struct Writer {
    stream: UnixStream,
    /// Files and bytes there are, files and bytes done: told now and then, for they change many times a millisecond.
    counts: Option<Counts>,
    told: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    total: [u64; 2],
    done: [u64; 2],
    is_news: bool,
}

impl Writer {
    fn counts_now(&mut self) -> io::Result<()> {
        let Some(counts) = self.counts.as_mut().filter(|counts| counts.is_news) else {
            return Ok(());
        };
        counts.is_news = false;
        let told = Told::Counts(counts.total, counts.done);
        self.told = Instant::now();
        frame::tell(&mut self.stream, &told)
    }
}

impl Frames {
    fn lock(&self) -> MutexGuard<'_, Writer> {
        // A frame is written whole or the connection is broken.
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, told: &Told) -> io::Result<()> {
        let mut writer = self.lock();
        writer.counts_now()?;
        frame::tell(&mut writer.stream, told)
    }

    fn event(&self, event: Event) {
        let told = match event {
            Event::Total { files, bytes } => return self.count(|it| it.total = [files, bytes]),
            Event::Done { files, bytes } => return self.count(|it| it.done = [files, bytes]),
            Event::Phase(phase) => {
                self.lock().counts = None;
                Told::Phase(frame::number_of(phase))
            }
            Event::Trouble { path, message } => Told::Trouble(PathBytes::of(&path), message),
            Event::Committed { sequence } => Told::Committed(sequence),
            Event::Notice(text) => Told::Notice(text),
            _ => return,
        };
        // A command that is gone has been cancelled.
        let _ = self.tell(&told);
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut writer = self.lock();
        let counts = writer.counts.get_or_insert_default();
        change(counts);
        counts.is_news = true;
        if writer.told.elapsed() >= TELL_EVERY {
            let _ = writer.counts_now();
        }
    }
}

/// A command's outputs, as what is done for it has them.
struct There {
    frames: Arc<Frames>,
    control: Control,
}

impl Far for There {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        frame::write(&mut self.frames.lock().stream, Kind::Bytes, bytes)
    }

    fn line(&self, text: &str) {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX.min(text.len()));
        let bytes = text.as_bytes().get(..end).unwrap_or_default();
        let _ = frame::write(&mut self.frames.lock().stream, Kind::Line, bytes);
    }

    fn begin(&self, beside_bytes: bool) {
        let _ = self.frames.tell(&Told::Begin(beside_bytes));
    }

    fn end(&self) {
        let _ = self.frames.tell(&Told::Stop);
    }

    fn control(&self) -> &Control {
        &self.control
    }
}
