//! What a node does for its store when nobody asks for it, besides storing, auditing and pruning: the rest of what time makes necessary.
//!
//! When it is done is for whoever runs the node to say; everything here may be cut off anywhere and done again.

use crate::{
    client::Client,
    engine::Engine,
    error::ClientError,
    progress::{Control, Phase},
};

impl Client {
    /// Has a channel's provider prove that it holds every vital pack (journal, dictionaries) and the newest commit: by one digest over what is
    /// kept here of them, and where that does not settle it by reading them back.
    ///
    /// A sample would pass the loss of one dictionary two times in three, and without it no small file opens.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn prove(client: &mut Client) -> Result<(), ClientError> {
    /// client.prove_vital("far away", &Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::WrongBytes`] where something is damaged or missing; [`ClientError::NoChannel`]; whatever keeps the provider from answering.
    pub fn prove_vital(&mut self, channel: &str, control: &Control) -> Result<(), ClientError> {
        self.engine.prove_vital_on(channel, control)
    }

    /// Merges segments of the journal where there are many, and asks providers where they are, if that was not done for long.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn tidy(client: &mut Client) -> Result<(), ClientError> {
    /// client.tidy(&Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from being read or a commit from being made.
    pub fn tidy(&mut self, control: &Control) -> Result<(), ClientError> {
        let engine = &mut self.engine;
        engine.sync(control)?;
        engine.merge_journal(control)?;
        let channels = engine.channels()?;
        engine.look_for_moves(&channels, control)?;
        engine.catalog.tidy()?;
        Ok(())
    }
}

impl Engine {
    fn prove_vital_on(&mut self, name: &str, control: &Control) -> Result<(), ClientError> {
        control.tell(crate::progress::Event::Phase(Phase::Proving));
        for id in self.channels_named(&[name.to_owned()])? {
            // Before the first commit nothing is owed.
            if self.node.seen(id)?.is_some() {
                let channel = self.channel(id)?;
                self.prove_vital_of(&channel, control)?;
            }
        }
        Ok(())
    }
}
