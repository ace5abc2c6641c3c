//! The configurations of the nodes: one place for what makes a private network work.

use std::{
    fmt::Write as _,
    net::{SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

/// Seconds from one consensus to the next.
const VOTING_INTERVAL: u32 = 20;
/// Seconds for votes, and then for signatures, to reach the other authorities.
const VOTING_DELAY: u32 = 4;
/// The same before there is a first consensus. Tor takes no shorter delays, and where both are more than half the interval it makes each a quarter
/// of it, in whole seconds.
const INITIAL_INTERVAL: u32 = 5;
const INITIAL_DELAY: u32 = 2;
const INITIAL_DELAY_EFFECTIVE: u32 = INITIAL_INTERVAL / 4;

/// What starting and uploading what they are may take the nodes.
const START: Duration = Duration::from_secs(4);

/// In kB/s.
const BANDWIDTH: u32 = 10_000;

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
pub(crate) fn relay(nickname: &str, or_address: SocketAddrV4) -> String {
    format!(
        "\
Nickname {nickname}
Address {}
ORPort {or_address} IPv4Only
SocksPort 0
ExitRelay 0
",
        or_address.ip()
    )
}

/// Returns what an authority has besides.
///
/// The shared random value lives for 24 intervals; onion services must change their place in the hash ring as often, hence `hsdir_interval`, which is
/// in minutes.
pub(crate) fn authority(dir_address: SocketAddr, bandwidths: &Path) -> String {
    let mut lines = format!(
        "\
DirPort {dir_address} IPv4Only
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
V3BandwidthsFile {}
",
        VOTING_INTERVAL * 24 / 60,
        quoted(bandwidths)
    );
    for flag in ["Exit", "HSDir", "Guard"] {
        let _ = writeln!(lines, "TestingDirAuthVote{flag} *");
    }
    lines
}

/// Returns what the authorities take for the measured bandwidths: the same for all.
///
/// Without it each relay counts for what it has seen of its own traffic, which is nothing at first. The first to test itself then outweighs all others
/// together, is everybody's guard and also the end of every path, and no circuit can be built until the others catch up.
pub(crate) fn bandwidths<'a>(
    since_epoch: Duration,
    rsa_ids: impl IntoIterator<Item = &'a str>,
) -> String {
    let mut lines = format!("{}\n", since_epoch.as_secs());
    for id in rsa_ids {
        let _ = writeln!(lines, "node_id=${id} bw={BANDWIDTH}");
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

/// Returns what every node has of its own: where it keeps its state. Countries, whose tables take a second to read, are of no use here.
pub(crate) fn node(folder: &Path) -> String {
    format!(
        "DataDirectory {}\nGeoIPFile {empty}\nGeoIPv6File {empty}\n",
        quoted(&data(folder)),
        empty = quoted(&empty(folder))
    )
}

/// Returns where a node keeps its state.
pub(crate) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Returns a file with nothing in it.
pub(crate) fn empty(folder: &Path) -> PathBuf {
    folder.join("empty")
}

/// Returns how long to wait before nodes are started that shall all be in the first consensus.
///
/// Votes are cast at fixed points of the clock. What is not there by then waits for the next consensus, which takes four times as long as the first.
pub(crate) fn until_start(since_epoch: Duration) -> Duration {
    let interval = Duration::from_secs(INITIAL_INTERVAL.into()).as_millis();
    let delays = Duration::from_secs((2 * INITIAL_DELAY_EFFECTIVE).into()).as_millis();
    let until_vote = (2 * interval - delays - since_epoch.as_millis() % interval) % interval;
    if until_vote >= START.as_millis() {
        return Duration::ZERO;
    }
    Duration::from_millis(u64::try_from(until_vote).expect("below the interval"))
}

/// Returns a path as tor reads one with spaces in it.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_start_only_if_the_vote_is_far_enough() {
        let delays = 2 * u64::from(INITIAL_DELAY_EFFECTIVE);
        let interval = u64::from(INITIAL_INTERVAL);
        let vote = 1_000 * interval - delays;
        let at = |millis: u64| until_start(Duration::from_millis(vote * 1_000 - millis));
        assert_eq!(at(4_000), Duration::ZERO);
        assert_eq!(at(3_999), Duration::from_millis(3_999));
        assert_eq!(at(1), Duration::from_millis(1));
        assert_eq!(until_start(Duration::from_secs(vote)), Duration::ZERO);
    }
}
