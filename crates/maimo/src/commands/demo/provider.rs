//! The demo's provider: served by a thread of this process, as `start` serves, to whoever has the invitation.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use maimo_client::progress::Control;
use maimo_core::{address::Addresses, clock::Timestamp, invitation::Invitation};
use maimo_provider::provider::{InviteRequest, Provider};

use zeroize::Zeroizing;

use super::{CHANNEL, broken};
use crate::{
    connect::ENDLESS,
    daemon::{self, Daemon, Entrance, Standing, Stop, now},
    error::CommandError,
    network::Network,
};

/// How often an interrupt is looked for while the provider comes up.
const LOOK: Duration = Duration::from_millis(100);
/// How long the invitation is good.
const INVITATION_MS: u64 = 60 * 60 * 1000;

/// A provider that serves until it is dropped.
pub(super) struct Served {
    stop: Stop,
    thread: Option<thread::JoinHandle<Result<(), CommandError>>>,
    address: String,
    invitation: Zeroizing<String>,
}

impl Served {
    /// Makes a provider in a folder, waits until it serves, and has it invite a client.
    pub(super) fn start(
        home: &Path,
        network: &Arc<Network>,
        entrance: Entrance,
        control: &Control,
    ) -> Result<Self, CommandError> {
        let provider = Provider::create(home)?;
        provider.add_volume(&home.join("volume"), ENDLESS)?;
        let stop = Stop::default();
        let daemon = Daemon {
            provider: Some(provider.clone()),
            owner: None,
            network: Arc::clone(network),
            entrances: vec![entrance],
            drain: Duration::from_secs(5),
            tally: Arc::default(),
            metrics: None,
            tell_every: daemon::TELL,
        };
        let (told, stands) = mpsc::channel();
        let stopped = stop.clone();
        let run = move || {
            daemon.run(stopped, |standing| {
                // Who waited for it has given up.
                let _ = told.send(standing.to_vec());
                Ok(())
            })
        };
        let thread = thread::Builder::new()
            .name("provider".to_owned())
            .spawn(run)
            .map_err(|error| CommandError::io("start a thread for", home, &error))?;
        let mut served = Self {
            stop,
            thread: Some(thread),
            address: String::new(),
            invitation: Zeroizing::default(),
        };
        let standing = served.wait(&stands, control)?;
        served.address = standing
            .addresses
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        served.invitation = invite(&provider, standing)?.to_line();
        Ok(served)
    }

    /// Returns where it is.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the line of the invitation.
    pub(super) fn invitation(&self) -> String {
        self.invitation.to_string()
    }

    fn wait(
        &mut self,
        stands: &mpsc::Receiver<Vec<Standing>>,
        control: &Control,
    ) -> Result<Standing, CommandError> {
        loop {
            match stands.recv_timeout(LOOK) {
                Ok(standing) => {
                    let first = standing.into_iter().next();
                    return first.ok_or_else(|| broken("the provider is nowhere"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    control
                        .check()
                        .map_err(maimo_client::error::ClientError::from)?;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let ended = self.thread.take().map(thread::JoinHandle::join);
                    return match ended {
                        Some(Ok(Err(error))) => Err(error),
                        _ => Err(broken("the provider ended before it served")),
                    };
                }
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            // How it ended matters no more: what it held is checked already, or the demo failed.
            let _ = thread.join();
        }
    }
}

fn invite(provider: &Provider, standing: Standing) -> Result<Invitation, CommandError> {
    let addresses = Addresses::new(standing.addresses)
        .map_err(|error| broken(&format!("an address cannot be given on: {error}")))?;
    let now = now();
    let request = InviteRequest {
        network: standing.kind,
        label: CHANNEL.to_owned(),
        cap: ENDLESS,
        grace: None,
        reserve: None,
        expires: Timestamp(now.0 + INVITATION_MS),
    };
    Ok(provider.invite(request, addresses, now)?)
}
