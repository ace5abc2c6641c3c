//! Figures for who watches this machine: one page over HTTP/1, on loopback and nowhere else.
//!
//! A request is read to the end of its head, and answered once; then the connection is closed. Whoever can connect to loopback may read the page, so that it
//! names nobody unless told to. A page of the web in a browser here could connect too, under a name of its own that leads here: only requests
//! for an address of this machine are answered.

use std::{fmt::Write as _, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::spawn_blocking,
    time::timeout,
};

use crate::metrics::CONTENT_TYPE;

/// How many are answered at a time.
const CONNECTIONS: usize = 8;
/// How long the head of a request may be, in bytes, and how many lines it may have.
const HEAD_BYTES: usize = 8 * 1024;
const HEADERS: usize = 64;
/// How long one request may take, from its first byte to the last of its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What writes the page. It may block.
pub(super) type Write = Arc<dyn Fn() -> String + Send + Sync>;

/// Answers for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, write: Write) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: that passes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let write = Arc::clone(&write);
        tokio::spawn(async move {
            // Who breaks off or is too slow has no page.
            let _ = timeout(PATIENCE, answer(stream, write)).await;
            drop(seat);
        });
    }
}

async fn answer(mut stream: TcpStream, write: Write) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    let asked = loop {
        match read(&head) {
            Asked::More if head.len() < HEAD_BYTES => {}
            Asked::More => break Asked::Wrong("431 Request Header Fields Too Large"),
            asked => break asked,
        }
        let left = (HEAD_BYTES - head.len()) as u64;
        if (&mut stream).take(left).read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let (status, with_body, body) = match asked {
        Asked::Page { with_body } => match spawn_blocking(move || write()).await {
            Ok(page) => ("200 OK", with_body, page),
            Err(_) => ("500 Internal Server Error", true, String::new()),
        },
        Asked::Wrong(status) => (status, true, format!("{status}\n")),
        Asked::More => return Ok(()),
    };
    let kind = if status.starts_with("200") {
        CONTENT_TYPE
    } else {
        "text/plain; charset=utf-8"
    };
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if with_body {
        text.push_str(&body);
    }
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// What a request is.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Its head is not whole yet.
    More,
    Page {
        with_body: bool,
    },
    Wrong(&'static str),
}

/// Reads a request's head.
fn read(head: &[u8]) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return Asked::More,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Asked::Wrong("400 Bad Request"),
    }
    let mut hosts = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("host"));
    let host = hosts
        .next()
        .and_then(|host| str::from_utf8(host.value).ok());
    if hosts.next().is_some() || !host.is_some_and(is_here) {
        return Asked::Wrong("421 Misdirected Request");
    }
    let path = request.path.unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    match (request.method, path) {
        (Some("GET"), "/metrics") => Asked::Page { with_body: true },
        (Some("HEAD"), "/metrics") => Asked::Page { with_body: false },
        (_, "/metrics") => Asked::Wrong("405 Method Not Allowed"),
        _ => Asked::Wrong("404 Not Found"),
    }
}

/// Returns whether a host, with or without a port, is this machine by an address or by the one name that always is.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    let address = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str, host: &str) -> Asked {
        read(format!("{line}\r\nHost: {host}\r\nAccept: */*\r\n\r\n").as_bytes())
    }

    #[test]
    fn the_page_is_given_to_who_asks_this_machine_for_it() {
        let page = Asked::Page { with_body: true };
        for host in ["127.0.0.1:9", "localhost", "[::1]:9100", "LOCALHOST:1"] {
            assert_eq!(asked("GET /metrics HTTP/1.1", host), page, "{host}");
        }
        assert_eq!(asked("GET /metrics?x=1 HTTP/1.1", "localhost"), page);
        let head = Asked::Page { with_body: false };
        assert_eq!(asked("HEAD /metrics HTTP/1.1", "localhost"), head);
    }

    #[test]
    fn a_page_of_the_web_whose_name_leads_here_gets_nothing() {
        for host in [
            "evil.example",
            "evil.example:9100",
            "",
            "127.0.0.1.evil.example",
            "10.0.0.1",
        ] {
            let answer = asked("GET /metrics HTTP/1.1", host);
            assert_eq!(answer, Asked::Wrong("421 Misdirected Request"), "{host}");
        }
        let none = read(b"GET /metrics HTTP/1.1\r\n\r\n");
        assert_eq!(none, Asked::Wrong("421 Misdirected Request"));
        let two = read(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: e.example\r\n\r\n");
        assert_eq!(two, Asked::Wrong("421 Misdirected Request"));
    }

    #[test]
    fn what_is_no_request_or_another_is_told_so() {
        let wrong = |line: &str| asked(line, "localhost");
        assert_eq!(wrong("GET / HTTP/1.1"), Asked::Wrong("404 Not Found"));
        assert_eq!(
            wrong("POST /metrics HTTP/1.1"),
            Asked::Wrong("405 Method Not Allowed")
        );
        assert_eq!(
            read(b"\x16\x03\x01\x02\x00"),
            Asked::Wrong("400 Bad Request")
        );
        assert_eq!(read(b"GET /metrics HTTP/1.1\r\nHost: loc"), Asked::More);
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(read(many.as_bytes()), Asked::Wrong("400 Bad Request"));
    }
}
