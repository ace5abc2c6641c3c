//! The control socket on a real provider, asked as commands do and as nobody should.

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use maimo_provider::provider::Provider;

use super::*;
use crate::error::CommandError;

fn provider(home: &Path) -> Provider {
    let provider = Provider::create(home).unwrap();
    provider.add_volume(&home.join("disk"), 1 << 30).unwrap();
    provider
}

fn asked(socket: &Path, request: &Request) -> Result<Answer, CommandError> {
    let answer = ask(socket, request, &|_| true)?;
    Ok(answer.expect("somebody serves the socket"))
}

fn invite(label: &str) -> Request {
    Request::Invite(InviteArgs {
        label: label.to_owned(),
        network: Network::Tor,
        cap: 5,
        reserve: None,
        grace: Some(GraceText::Endless),
        expires: u64::MAX,
        addresses: Vec::new(),
    })
}

#[test]
fn what_the_owner_asks_is_done_by_the_process_that_has_the_provider() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let provider = provider(&home);
    let socket = socket_of(&home);
    assert!(
        ask(&socket, &Request::Volumes, &|_| true)
            .unwrap()
            .is_none()
    );
    let served = serve(provider.clone(), &socket, None).unwrap();
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A path that is no text arrives as it is.
    let odd = folder.path().join(OsStr::from_bytes(b"od\xffd"));
    let path = PathBytes::of(&odd);
    let capacity = 1 << 20;
    let Ok(Answer::Volumes(volumes)) = asked(&socket, &Request::AddVolume { path, capacity })
    else {
        panic!("no volumes");
    };
    assert_eq!(volumes.len(), 2);
    assert!(odd.join("maimo-volume").exists());

    let Ok(Answer::Invited { line, row }) = asked(&socket, &invite("anna")) else {
        panic!("no invitation");
    };
    assert!(line.starts_with("maimo:invite1"));
    assert_eq!((row.label.as_str(), row.state.as_str()), ("anna", "open"));
    // What is refused there is refused here, in the same words as without a socket.
    let here = perform(&provider, invite("anna"), &|_, _| true)
        .err()
        .unwrap();
    let there = asked(&socket, &invite("anna")).err().unwrap();
    assert_eq!(here.to_string(), there.to_string());
    assert_eq!(here.exit(), there.exit());
    assert_eq!(here.hint_text(), there.hint_text());
    let Ok(Answer::Scrubbed(scrubbed)) = asked(&socket, &Request::Scrub) else {
        panic!("no scrub");
    };
    assert_eq!(scrubbed.damaged, Vec::<String>::new());
    drop(served);
    assert!(!socket.exists());
    drop(provider);
    assert!(Provider::open(&home).is_ok(), "the socket kept it open");
}

#[test]
fn what_is_no_request_ends_one_connection_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let socket = socket_of(&home);
    let _served = serve(provider(&home), &socket, None).unwrap();
    let say = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // Cut off while it is still being sent, if it is too long.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert_eq!(say(&vec![b'x'; 1 << 20]), "");
    assert_eq!(say(b"{\"volumes\""), "");
    assert_eq!(say(b""), "");
    for garbage in ["x\n", "{}\n", "{\"volumes\":1}\n", "\"no-such\"\n", "\n"] {
        assert!(say(garbage.as_bytes()).contains("\"error\""), "{garbage}");
    }
    assert!(asked(&socket, &Request::Volumes).is_ok());
}

#[test]
fn one_who_says_nothing_keeps_nobody_waiting_and_ends_with_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let socket = socket_of(&home);
    let served = serve(provider(&home), &socket, None).unwrap();
    let silent: Vec<_> = (0..5)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    assert!(asked(&socket, &Request::Volumes).is_ok());
    drop(served);
    drop(silent);
    assert!(Provider::open(&home).is_ok());
}

#[test]
fn a_socket_that_a_killed_process_left_is_taken_over_and_a_deep_home_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("deep/".repeat(30)).join("home");
    let provider = provider(&home);
    let socket = socket_of(&home);
    fs::write(&socket, "left over").unwrap();
    let served = serve(provider, &socket, None);
    if cfg!(target_os = "linux") {
        let _served = served.unwrap();
        assert!(asked(&socket, &Request::Volumes).is_ok());
    }
}

#[test]
fn who_stops_waiting_is_told_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    // One that takes the request and never answers.
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let began = Instant::now();
    let stopped = ask(&socket, &Request::Volumes, &|_| {
        began.elapsed() < Duration::from_millis(300)
    });
    let error = stopped.err().unwrap();
    assert_eq!(error.exit(), crate::error::Exit::Interrupted);
    drop(listener);
}
