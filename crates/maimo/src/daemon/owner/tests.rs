use std::{
    path::Path,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

use maimo_client::client::{InitOptions, OpenOptions};
use maimo_net::connect::Connector;

use super::*;

/// Makes the owner of a new store, and tells how often it was opened again.
fn owner(home: &Path) -> (Owner, Arc<AtomicU32>) {
    Client::init(home, &InitOptions::default()).unwrap();
    let home = home.to_owned();
    let open = move || {
        let connector: Arc<dyn Connector> = Arc::new(Folders::new());
        Client::open(&home, OpenOptions::new(connector))
    };
    let client = open().unwrap();
    let reopened = Arc::<AtomicU32>::default();
    let counts = Arc::clone(&reopened);
    let reopen = move || {
        counts.fetch_add(1, Ordering::Relaxed);
        open()
    };
    let owner = Owner::new(client, Folders::new(), Box::new(reopen));
    (owner, reopened)
}

fn task(what: &str) -> Task {
    Task::new(what, |_| {})
}

/// Does background work that ends only when it is cancelled, and waits until it has begun.
fn endless(owner: &Owner) -> thread::JoinHandle<Result<(), ClientError>> {
    let (begun, begins) = mpsc::channel();
    let owner = owner.clone();
    let works = thread::spawn(move || {
        owner.background("endless", |_, control| {
            control.tell(Event::Phase(Phase::Scanning));
            control.tell(Event::Done { files: 7, bytes: 9 });
            begun.send(()).unwrap();
            loop {
                control.check()?;
                thread::sleep(Duration::from_millis(1));
            }
        })
    });
    begins.recv().unwrap();
    works
}

#[test]
fn a_command_cancels_background_work_and_goes_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, reopened) = owner(&folder.path().join("home"));
    let works = endless(&owner);
    let doing = owner.at_work().doing.unwrap();
    assert_eq!((&*doing.what, doing.is_background), ("endless", true));
    assert_eq!(
        (doing.heard.phase, doing.heard.files_done),
        (Some(Phase::Scanning), 7)
    );
    let turn = owner.turn(&task("list"), &|_| {}).unwrap();
    assert!(matches!(
        works.join().unwrap(),
        Err(ClientError::Cancelled(_))
    ));
    assert!(turn.status().is_ok());
    let other = owner.clone();
    let waits = thread::spawn(move || other.background("later", |_, _| Ok(())));
    assert_eq!(owner.at_work().doing.unwrap().what, "list");
    drop(turn);
    assert!(waits.join().unwrap().is_ok());
    assert!(owner.at_work().doing.is_none());
    assert_eq!(reopened.load(Ordering::Relaxed), 0);
}

#[test]
fn commands_take_turns_in_their_order_and_hear_what_they_wait_for() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, _) = owner(&folder.path().join("home"));
    let first = owner.turn(&task("first"), &|_| {}).unwrap();
    let (did, done) = mpsc::channel();
    let begin = |what: &'static str| {
        let (owner, did) = (owner.clone(), did.clone());
        let (heard, hears) = mpsc::channel();
        let works = thread::spawn(move || {
            // Of later ones nobody asks.
            let waits = |what: &str| drop(heard.send(what.to_owned()));
            let turn = owner.turn(&task(what), &waits).unwrap();
            did.send(what).unwrap();
            drop(turn);
        });
        assert_eq!(hears.recv().unwrap(), "first");
        works
    };
    let works = [begin("second"), begin("third")];
    assert_eq!(owner.at_work().waiting, ["second", "third"]);
    drop(first);
    assert_eq!(
        (done.recv().unwrap(), done.recv().unwrap()),
        ("second", "third")
    );
    for thread in works {
        thread.join().unwrap();
    }
}

#[test]
fn a_command_that_is_cancelled_while_it_waits_leaves_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, _) = owner(&folder.path().join("home"));
    let first = owner.turn(&task("first"), &|_| {}).unwrap();
    let (second, other) = (task("second"), owner.clone());
    let control = second.control().clone();
    let waits = thread::spawn(move || other.turn(&second, &|_| {}).map(drop));
    control.cancel();
    assert!(matches!(
        waits.join().unwrap(),
        Err(ClientError::Cancelled(_))
    ));
    assert!(owner.at_work().waiting.is_empty());
    drop(first);
    assert!(owner.turn(&task("third"), &|_| {}).is_ok());
}

#[test]
fn a_task_that_panics_takes_the_client_along_and_the_next_opens_it_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, reopened) = owner(&folder.path().join("home"));
    let other = owner.clone();
    let panics = thread::spawn(move || {
        other.background("broken", |_, _| -> Result<(), ClientError> {
            panic!("on purpose")
        })
    });
    assert!(panics.join().is_err());
    assert!(owner.turn(&task("next"), &|_| {}).unwrap().status().is_ok());
    assert_eq!(reopened.load(Ordering::Relaxed), 1);
}

#[test]
fn closing_cancels_background_work_lets_a_command_end_and_frees_the_home() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let (owner, _) = owner(&home);
    let works = endless(&owner);
    owner.close(Duration::from_hours(1));
    assert!(matches!(
        works.join().unwrap(),
        Err(ClientError::Cancelled(_))
    ));
    assert!(owner.background("late", |_, _| Ok(())).is_err());
    assert!(owner.turn(&task("late"), &|_| {}).is_err());
    // Others may have clones of it: its home is free all the same.
    let connector: Arc<dyn Connector> = Arc::new(Folders::new());
    assert!(Client::open(&home, OpenOptions::new(connector)).is_ok());
}

#[test]
fn closing_cancels_a_command_that_does_not_end_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, _) = owner(&folder.path().join("home"));
    let long = task("long");
    let control = long.control().clone();
    let turn = owner.turn(&long, &|_| {}).unwrap();
    let other = owner.clone();
    let closes = thread::spawn(move || other.close(Duration::ZERO));
    while control.check().is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
    drop(turn);
    closes.join().unwrap();
}
