//! Interrupts: the first asks the running operation to stop where nothing is half done, the second ends the process at once.
//!
//! Ending at once is safe as well: whatever was acknowledged is durable, and no lock outlives the process.

use std::{process, thread};

use maimo_client::progress::{Control, Event};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::error::Exit;

/// Cancels `control` at the first interrupt or request to end. Where the system gives no thread or handler, its own way holds: the process
/// just ends.
pub(crate) fn cancel_on_interrupt(control: &Control) {
    let control = control.clone();
    let listen = move || {
        // Registered here and not before: without this thread a handler would only swallow the signal.
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
            return;
        };
        for _ in signals.forever() {
            if control.is_cancelled() {
                end_now();
            }
            control.cancel();
            control.tell(Event::Notice(
                "stopping where nothing is half done; interrupt again to end at once".to_owned(),
            ));
        }
    };
    let _ = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen);
}

#[expect(
    clippy::exit,
    reason = "the user asked twice; the operation may be stuck in a call that never returns"
)]
pub(crate) fn end_now() -> ! {
    process::exit(Exit::Interrupted.code().into())
}
