//! A provider as a process of its own: this program again, with its real server and limits; and what the system tells of it.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use maimo_core::address::Network;
use maimo_net::{
    serve::{Limits, Resources, Server},
    transport::{Listener as _, tcp::TcpListener},
};
use maimo_provider::provider::Provider;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// What the program is called with to be the provider, before its port and folder.
const SERVE: &str = "serve-folder";

/// Is the provider where the program was called to be one, until whoever started it closes its input. Returns whether it was.
pub(crate) fn is_provider() -> bool {
    let mut arguments = env::args_os().skip(1);
    let is_asked = arguments.next().is_some_and(|first| first == SERVE);
    if is_asked {
        let port = arguments.next().and_then(|port| port.into_string().ok());
        let port = port.and_then(|port| port.parse().ok()).expect("a port");
        let folder = arguments.next().expect("a folder to serve");
        serve(Path::new(&folder), port);
    }
    is_asked
}

fn serve(folder: &Path, port: u16) {
    let provider = Provider::open_folder(folder, None).expect("a folder with a provider");
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port).into(), None).await;
        let listener = listener.expect("a free port");
        println!("{}", listener.address());
        io::stdout().flush().expect("somebody who reads");
        let server = Server::new(
            Arc::new(provider.face(Network::Tcp)),
            &Resources::new(Limits::DEFAULT),
        );
        let stop = CancellationToken::new();
        thread::spawn({
            let stop = stop.clone();
            move || {
                let _ = io::stdin().read_to_end(&mut Vec::new());
                stop.cancel();
            }
        });
        let served = server.serve(Box::new(listener), stop).await;
        served.expect("a listener that goes on");
    });
}

/// A provider that runs.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
    /// The provider's own process, which `strace` may stand before.
    id: u32,
}

impl Running {
    /// Starts a provider on a port, 0 for any that is free, its fsyncs written to `trace` if there is one.
    pub(crate) fn start(folder: &Path, port: u16, trace: Option<&Path>) -> io::Result<Self> {
        let own = env::current_exe()?;
        let mut command = match trace {
            Some(trace) => {
                let mut command = Command::new("strace");
                command.args(["-f", "--seccomp-bpf", "-qq", "-e", "signal=none"]);
                command.args(["-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o"]);
                command.arg(trace).arg(own);
                command
            }
            None => Command::new(own),
        };
        let mut child = command
            .args([SERVE, &port.to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let stdout = child.stdout.take().expect("a pipe was asked for");
        BufReader::new(stdout).read_line(&mut address)?;
        Ok(Self {
            id: child.id(),
            address: address.trim_end().to_owned(),
            child,
        })
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.id)).expect("Linux")
    }

    /// Returns a figure of a file of lines `name: figure`.
    pub(crate) fn figure(&self, file: &str, name: &str) -> u64 {
        let text = self.proc(file);
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(found, _)| *found == name);
        let value = found.and_then(|(_, value)| value.split_whitespace().next());
        value
            .and_then(|value| value.parse().ok())
            .expect("a figure")
    }

    /// Returns the processor time it took so far, in seconds.
    pub(crate) fn processor_s(&self) -> f64 {
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(')').expect("a name in parentheses").1;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks
            .map(|ticks| ticks.parse::<u32>().expect("ticks"))
            .sum();
        f64::from(ticks) / 100.0
    }

    pub(crate) fn memory_mib(&self, name: &str) -> f64 {
        mib(self.figure("status", name) * 1024)
    }
}

impl Running {
    /// Ends it as a power cut would end the program.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

pub(crate) fn mib(bytes: u64) -> f64 {
    float_of(bytes) / f64::from(1 << 20)
}

pub(crate) fn ratio(part: u64, whole: usize) -> f64 {
    float_of(part) / float(whole)
}

pub(crate) fn float(count: usize) -> f64 {
    float_of(count as u64)
}

/// Counts here are far below what a float holds.
pub(crate) fn float_of(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
