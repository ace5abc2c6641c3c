//! A machine at the other end of a wire, and what it puts on that wire.
//!
//! ```text
//!  +- namespaces of the test ------------------------+      +- a namespace of the machine -+
//!  |  relays, provider   10.77.0.1 [near] <--tcpdump-|------|-[far] 10.77.0.2   client     |
//!  +-------------------------------------------------+      +-------------------------------+
//! ```
//!
//! All is in namespaces that nothing else knows, so it needs no clean-up, disturbs no other test, and where the system lets users make namespaces
//! it needs no root.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
};

use crate::node::until;

/// The near end, where the rest of the world is.
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where a tor at the far end has its proxy: an address that only the far end has.
pub(crate) const PROXY: &str = "127.0.0.1:9050";
const INSIDE: &str = "MAIMO_TEST_IN_NAMESPACES";

/// Runs this test again in namespaces of its own; returns whether this is that run.
pub(crate) fn inside(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    if !rustix::process::geteuid().is_root() {
        // Not as root of it: tcpdump, which as root becomes another user, cannot there.
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    let status = command
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "in namespaces of its own: {status}; if it says why above, it is that; else this user may make none"
    );
    false
}

/// A machine with one way out: the wire.
pub(crate) struct FarMachine {
    /// Whose namespace it is.
    holder: Killed,
    capture: Killed,
    words: BufReader<ChildStderr>,
    file: PathBuf,
}

impl FarMachine {
    /// Lays the wire and begins to capture what comes out of its far end. Files go into `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        tool(&["ip", "link", "set", "lo", "up"]);
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "900"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let holder = Killed(holder);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let its = format!("/proc/{}/ns/net", holder.0.id());
        until("a namespace of its own", || {
            fs::read_link(&its).unwrap() != own
        });
        let id = holder.0.id().to_string();
        tool(&[
            "ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &id,
        ]);
        tool(&["ip", "addr", "add", "10.77.0.1/30", "dev", "near"]);
        tool(&["ip", "link", "set", "near", "up"]);
        let far = |args: &[&str]| tool(&[&["nsenter", "-t", &id, "-n", "ip"], args].concat());
        far(&["link", "set", "lo", "up"]);
        far(&["addr", "add", "10.77.0.2/30", "dev", "far"]);
        far(&["link", "set", "far", "up"]);
        far(&["route", "add", "default", "via", "10.77.0.1"]);
        // A system may have no IPv6; then nothing can leave by it.
        let six = "ip -6 addr add fd77::2/64 dev far nodad && ip -6 route add default via fd77::1";
        let _ = Command::new("nsenter")
            .args(["-t", &id, "-n", "sh", "-c", six])
            .stderr(Stdio::null())
            .status();
        // Whoever asks for names asks over the wire, not a resolver on this machine.
        let resolver = folder.join("resolv.conf");
        fs::write(&resolver, "nameserver 10.77.0.1\noptions attempts:1\n").unwrap();
        let resolver = resolver.to_str().unwrap();
        tool(&["mount", "--bind", resolver, "/etc/resolv.conf"]);

        let file = folder.join("capture.pcap");
        let mut capture = Command::new(found("tcpdump"))
            .args(["-i", "near", "-Q", "in", "-nn", "-U", "--immediate-mode"])
            .args(["-s", "128", "-B", "32768", "-Z", "root", "-w"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut words = BufReader::new(capture.stderr.take().unwrap());
        let capture = Killed(capture);
        let mut line = String::new();
        while !line.contains("listening on") {
            let before = core::mem::take(&mut line);
            assert!(
                words.read_line(&mut line).unwrap() > 0,
                "no tcpdump: {before}"
            );
        }
        Self {
            holder,
            capture,
            words,
            file,
        }
    }

    /// Prepares a command to run there.
    pub(crate) fn there(&self, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there
            .args(["-t", &self.holder.0.id().to_string(), "-n"])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(
                command
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            )
            .current_dir(command.get_current_dir().unwrap())
            .stdin(Stdio::null());
        there
    }

    /// Starts a tor there with a SOCKS proxy at [`PROXY`], and waits until it can build circuits.
    pub(crate) fn tor(&self, folder: &Path, join: &str) -> Killed {
        fs::create_dir_all(folder).unwrap();
        let torrc = format!(
            "{join}DataDirectory {}\nSocksPort {PROXY}\n",
            folder.join("data").display()
        );
        fs::write(folder.join("torrc"), torrc).unwrap();
        fs::write(folder.join("none"), "").unwrap();
        let log = folder.join("log");
        let mut command = Command::new(found("tor"));
        command
            .args(["-f", "torrc", "--defaults-torrc", "none"])
            .current_dir(folder);
        let process = self
            .there(&command)
            .stdout(fs::File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn();
        let tor = Killed(process.unwrap());
        until("a tor there", || {
            fs::read_to_string(&log)
                .unwrap()
                .contains("Bootstrapped 100%")
        });
        tor
    }

    /// Returns what was sent so far.
    pub(crate) fn sent(&self) -> Vec<Packet> {
        packets(&fs::read(&self.file).unwrap())
    }

    /// Returns all that was sent, and expects that nothing of it was missed.
    pub(crate) fn end(&mut self) -> Vec<Packet> {
        let id = rustix::process::Pid::from_child(&self.capture.0);
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        let mut words = String::new();
        self.words.read_to_string(&mut words).unwrap();
        self.capture.0.wait().unwrap();
        assert!(words.contains("\n0 packets dropped by kernel"), "{words}");
        self.sent()
    }
}

/// A process that does not outlive this, a failure of the test included.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only for one that has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a packet is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Packet {
    /// Of the wire itself: who has which address, who is a router, who hears which group. The system sends them.
    Neighbours,
    /// To this address by TCP.
    Tcp(SocketAddr),
    /// To this address by UDP.
    Udp(SocketAddr),
    /// Anything else.
    Other(String),
}

/// Reads a capture as libpcap writes one on a little-endian machine; a last packet that is not there in full is left out.
fn packets(capture: &[u8]) -> Vec<Packet> {
    const HEADER: usize = 24;
    assert!(capture.len() >= HEADER && capture[..4] == 0xa1b2_c3d4_u32.to_le_bytes());
    assert_eq!(capture[20..24], 1_u32.to_le_bytes(), "no Ethernet");
    let mut rest = &capture[HEADER..];
    let mut packets = Vec::new();
    while let Some((record, after)) = rest.split_at_checked(16) {
        let length = u32::from_le_bytes(record[8..12].try_into().unwrap());
        let Some((frame, after)) = after.split_at_checked(length as usize) else {
            break;
        };
        packets.push(read(frame).unwrap_or_else(|| Packet::Other(format!("{frame:02x?}"))));
        rest = after;
    }
    packets
}

/// Reads a frame of Ethernet.
fn read(frame: &[u8]) -> Option<Packet> {
    let body = frame.get(14..)?;
    match [frame[12], frame[13]] {
        [0x08, 0x06] => Some(Packet::Neighbours),
        [0x08, 0x00] => {
            let header = usize::from(body.first()? & 15) * 4;
            let to: [u8; 4] = body.get(16..20)?.try_into().ok()?;
            transport(body[9], Ipv4Addr::from(to).into(), body.get(header..)?)
        }
        [0x86, 0xdd] => {
            let to: [u8; 16] = body.get(24..40)?.try_into().ok()?;
            let (protocol, after) = match body[6] {
                // Options before what hears of groups.
                0 => (*body.get(40)?, body.get(48..)?),
                protocol => (protocol, body.get(40..)?),
            };
            match (protocol, after.first()?) {
                (58, 130..=137 | 143) => Some(Packet::Neighbours),
                _ => transport(protocol, Ipv6Addr::from(to).into(), after),
            }
        }
        _ => None,
    }
}

fn transport(protocol: u8, to: IpAddr, header: &[u8]) -> Option<Packet> {
    let port = u16::from(*header.get(2)?) << 8 | u16::from(*header.get(3)?);
    match protocol {
        6 => Some(Packet::Tcp((to, port).into())),
        17 => Some(Packet::Udp((to, port).into())),
        _ => Some(Packet::Other(format!("protocol {protocol} to {to}"))),
    }
}

fn tool(words: &[&str]) {
    let done = Command::new(found(words[0])).args(&words[1..]).output();
    let done = done.unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{words:?}: {said}");
}

/// Returns where a tool is: not every user's PATH leads to those of the administrator.
fn found(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: `./check` installs it where it may"))
}
