//! The service manager: what systemd is told of the node, where one listens. Elsewhere all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the node serves.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says what the node is at.
pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Says that the node ends.
pub(super) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("ending what runs"),
    ]);
}

/// Says that the node lives.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Returns how often [`alive`] is to be said: twice in the time after which the manager thinks the node dead.
pub(super) fn pulse() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(state: &[NotifyState<'_>]) {
    // Whoever does not listen does not care.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
