//! A socket for the owner's commands: made, listened on, and gone when it is dropped.

use std::{
    fs, io,
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::short;

/// A socket that is being served; dropped, it stops what it was asked to do, and the socket goes.
pub(crate) struct Served {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next command.
        let woken = short(&self.path).and_then(|(at, _folder)| UnixStream::connect(at));
        let _ = fs::remove_file(&self.path);
        // Where it cannot be woken, it is left to the end of the process.
        if let (Some(accepting), Ok(_)) = (self.accepting.take(), woken) {
            let _ = accepting.join();
        }
    }
}

/// What is done with a connection, until it is over.
type Answer = dyn Fn(UnixStream, &AtomicBool) + Send + Sync;

/// How long commands may take to end once all is over, and once they were cut off.
const ENDING: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(2)];
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Listens at `path` and has `answer` answer each connection, on a thread of its own, at most so many at a time. The caller has the home that
/// the socket is in, so one that is there already is one that a killed process left.
///
/// # Errors
///
/// The socket cannot be made.
pub(crate) fn listen(
    path: &Path,
    connections_max: usize,
    answer: impl Fn(UnixStream, &AtomicBool) + Send + Sync + 'static,
) -> io::Result<Served> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (at, _folder) = short(path)?;
    let listener = UnixListener::bind(&at)?;
    // Until here the mode of the home, 0700, kept others away.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let is_over = Arc::new(AtomicBool::new(false));
    let accepting = thread::Builder::new().name("control".to_owned()).spawn({
        let is_over = Arc::clone(&is_over);
        let answer: Arc<Answer> = Arc::new(answer);
        move || accept(&listener, connections_max, &answer, &is_over)
    })?;
    Ok(Served {
        path: path.to_owned(),
        is_over,
        accepting: Some(accepting),
    })
}

fn accept(
    listener: &UnixListener,
    connections_max: usize,
    answer: &Arc<Answer>,
    is_over: &Arc<AtomicBool>,
) {
    let mut commands: Vec<(JoinHandle<()>, UnixStream)> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        commands.retain(|(command, _)| !command.is_finished());
        if commands.len() >= connections_max {
            // Closed without a word: the other end says that nobody answered.
            continue;
        }
        // One to be closed when all is over, one when this command is done: with a clone left, no end is seen at the other side.
        let (Ok(same), Ok(done)) = (stream.try_clone(), stream.try_clone()) else {
            continue;
        };
        let (answer, is_over) = (Arc::clone(answer), Arc::clone(is_over));
        let answering = thread::Builder::new()
            .name("command".to_owned())
            .spawn(move || {
                let _done = Closing(done);
                answer(stream, &is_over);
            });
        commands.extend(answering.ok().map(|answering| (answering, same)));
    }
    wait(&mut commands, ENDING[0]);
    for (_, stream) in &commands {
        // A command that was suspended, or whose reader is: nobody takes in what is written to it.
        let _ = stream.shutdown(Shutdown::Both);
    }
    // Whatever does not end now is left to the end of the process.
    wait(&mut commands, ENDING[1]);
}

/// A connection that is closed at the end, a panic's too, whoever has clones of it.
struct Closing(UnixStream);

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Waits until all commands have ended, for so long at most; those that have not are left.
fn wait(commands: &mut Vec<(JoinHandle<()>, UnixStream)>, at_most: Duration) {
    let deadline = Instant::now() + at_most;
    loop {
        commands.retain(|(command, _)| !command.is_finished());
        if commands.is_empty() || Instant::now() >= deadline {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}
