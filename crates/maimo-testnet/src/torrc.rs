//! The configurations of the nodes: one place for what makes a private network work.

use std::fmt::Write as _;
use std::path::Path;

/// Seconds from one consensus to the next.
const VOTING_INTERVAL: u32 = 20;
/// Seconds for votes, and then for signatures, to reach the other authorities.
const VOTING_DELAY: u32 = 4;
/// The same before there is a first consensus.
const INITIAL_INTERVAL: u32 = 20;
const INITIAL_DELAY: u32 = 4;

/// What every node of the network has, clients too.
///
/// All addresses are one, so that no rule about subnets may hold, nor one about how many of the relays a path may need.
const COMMON: &str = "\
TestingTorNetwork 1
AssumeReachable 1
PathsNeededToBuildCircuits 0.67
EnforceDistinctSubnets 0
NumCPUs 1
ShutdownWaitLength 0
Log notice stdout
";

/// Returns the lines that any tor needs to join: the common ones and whom to trust.
pub(crate) fn join<'a>(authorities: impl IntoIterator<Item = &'a str>) -> String {
    let mut lines = COMMON.to_owned();
    for authority in authorities {
        lines.push_str(authority);
        lines.push('\n');
    }
    lines
}

/// Returns what a relay has besides.
pub(crate) fn relay(nickname: &str, or_port: u16) -> String {
    format!(
        "\
Nickname {nickname}
Address 127.0.0.1
ORPort 127.0.0.1:{or_port} IPv4Only
SocksPort 0
ExitRelay 0
"
    )
}

/// Returns what an authority has besides.
///
/// The shared random value lives for 24 intervals; onion services must change their place in the hash ring as often, hence `hsdir_interval`, which is
/// in minutes.
pub(crate) fn authority(dir_port: u16) -> String {
    let mut lines = format!(
        "\
DirPort 127.0.0.1:{dir_port} IPv4Only
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo none
ConsensusParams hsdir_interval={}
V3AuthVotingInterval {VOTING_INTERVAL}
V3AuthVoteDelay {VOTING_DELAY}
V3AuthDistDelay {VOTING_DELAY}
V3AuthNIntervalsValid 2
TestingV3AuthInitialVotingInterval {INITIAL_INTERVAL}
TestingV3AuthInitialVoteDelay {INITIAL_DELAY}
TestingV3AuthInitialDistDelay {INITIAL_DELAY}
TestingMinExitFlagThreshold 0
",
        VOTING_INTERVAL * 24 / 60
    );
    for flag in ["Exit", "HSDir", "Guard"] {
        let _ = writeln!(lines, "TestingDirAuthVote{flag} *");
    }
    lines
}

/// Returns what a client has besides.
pub(crate) fn client(socks_port: u16, control_port: u16, cookie: &Path) -> String {
    format!(
        "\
SocksPort 127.0.0.1:{socks_port}
ControlPort 127.0.0.1:{control_port}
CookieAuthentication 1
CookieAuthFile {}
",
        quoted(cookie)
    )
}

/// Returns where a node keeps its state.
pub(crate) fn data_directory(folder: &Path) -> String {
    format!("DataDirectory {}\n", quoted(folder))
}

/// Returns a path as tor reads one with spaces in it.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}
