//! What an authority's newest consensus lists.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// Many times what a consensus of eight relays takes.
const BYTES_MAX: u64 = 1024 * 1024;

/// Returns how many running relays the authority at this directory address lists; 0 while it has no consensus.
pub(crate) fn running_relays(address: SocketAddr) -> io::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /tor/status-vote/current/consensus HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer)?;
    Ok(count_running(&String::from_utf8_lossy(&answer)))
}

/// Counts the flag lines ("s Fast Guard Running ...") with the flag.
fn count_running(consensus: &str) -> usize {
    consensus
        .lines()
        .filter_map(|line| line.strip_prefix("s "))
        .filter(|flags| flags.split(' ').any(|flag| flag == "Running"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_relays_are_counted_and_others_not() {
        let consensus = "HTTP/1.0 200 OK\r\n\r\nnetwork-status-version 3\nknown-flags Fast Running\n\
             r a AAAA\ns Fast Guard Running V2Dir\nr b BBBB\ns Fast\nr c CCCC\ns Running\n";
        assert_eq!(count_running(consensus), 2);
        assert_eq!(count_running("HTTP/1.0 404 Not found\r\n\r\n"), 0);
    }
}
