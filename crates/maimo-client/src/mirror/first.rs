//! `channel first`: which channel decides commits. Only a user changes that, and it may be because the one that decided is gone.
//!
//! The commit that says so is decided by the channel that it makes the first, on top of the newest state that this node knows, which that channel is
//! let follow beforehand. So it takes nothing of the old one, which may be away: if it is not, it follows at once; if it comes back, it either
//! shows what was built on, and follows, or commits that other machines made there meanwhile, which are merged ([`super::join`]).

use std::time::Duration;

use maimo_vault::journal::record::Record;

use super::MirrorReport;
use crate::{
    client::Client,
    commit::Followed,
    engine::Engine,
    error::ClientError,
    progress::{Control, Event},
};

impl Client {
    /// Makes a mirror the channel that decides commits; the one that did becomes a mirror.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn first(client: &mut Client) -> Result<(), ClientError> {
    /// let report = client.make_first("office", &Control::default())?;
    /// assert_eq!(report.channels[0].0, "office");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A name that no channel has; that the store is not on it; that it does not answer, or lacks what only a channel that is away has.
    pub fn make_first(
        &mut self,
        name: &str,
        control: &Control,
    ) -> Result<MirrorReport, ClientError> {
        self.engine.make_first(name, control)
    }
}

impl Engine {
    fn make_first(&mut self, name: &str, control: &Control) -> Result<MirrorReport, ClientError> {
        let row = self.channel_called(name)?;
        self.try_mirrors_again(Duration::ZERO);
        let is_away = match self.sync(control) {
            Ok(_) => false,
            Err(error @ ClientError::Provider { .. }) => {
                control.tell(Event::Notice(format!(
                    "{error}; what other machines stored there since is merged once it is back"
                )));
                true
            }
            Err(error) => return Err(error),
        };
        let layout = self.layout_known()?;
        if !layout.channels.contains(&row.id) {
            return Err(ClientError::Input {
                message: format!("the store is not kept on channel {name}"),
                hint: Some("make it a mirror: `maimo channel mirror NAME NAME`"),
            });
        }
        let Some(old) = layout.first().filter(|first| *first != row.id) else {
            return self.mirror_report();
        };
        // What was sent to one that is away and never answered is acknowledged to nobody; if it was taken, it is merged as another machine's is.
        if !self.has_last_seen(old, true)? {
            let old = self.channel_row(old)?.name;
            return Err(ClientError::Input {
                message: format!(
                    "this node does not have the newest state that channel {old} showed it"
                ),
                hint: Some("run `maimo recover` with the address of the channel that is there"),
            });
        }
        let channel = self.channel(row.id)?;
        self.read_channel(&channel)?;
        if !is_away {
            let (mut sent, mut received) = (0, 0);
            self.bring_up(row.id, &mut sent, &mut received, control)?;
        }
        if !matches!(self.follow(row.id)?, Followed::Yes(_)) {
            let old = self.channel_row(old)?.name;
            return Err(ClientError::Input {
                message: format!("channel {name} lacks what only channel {old} has"),
                hint: Some(
                    "run it again once that one answers; or `maimo recover` with the address of this one, which has an older state",
                ),
            });
        }
        let mut channels = layout.channels;
        channels.sort_by_key(|id| *id != row.id);
        let record = Record::Layout {
            epoch: layout.epoch + 1,
            channels,
        };
        self.deciding = Some(row.id);
        let committed = self.commit_records(&[record], control);
        self.deciding = None;
        committed?;
        // What is read of the journal from now on is what this channel has of it.
        let commit = self.shown.get(&row.id).and_then(|it| it.commit.clone());
        if let Some(commit) = commit {
            self.fetch_segments(&row.id, &commit, Some(&channel), control)?;
        }
        self.bring_up_mirrors(control)
    }
}
