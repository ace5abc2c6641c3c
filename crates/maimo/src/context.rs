//! [`Context`]: what every command has at hand.

use crate::{cli::Global, config::Config, error::CommandError, places::Places, ui::Ui};

/// The outputs, the configuration and the node's folders.
pub(crate) struct Context {
    pub(crate) ui: Ui,
    pub(crate) config: Config,
    pub(crate) places: Places,
}

impl Context {
    /// Reads the configuration; `ui` then heeds it.
    ///
    /// # Errors
    ///
    /// It does not parse, or nothing says where it is.
    pub(crate) fn new(global: &Global, ui: &mut Ui) -> Result<Self, CommandError> {
        let mut places = Places::find(global.home.as_deref())?;
        if let Some(file) = &global.config {
            places.config.clone_from(file);
        }
        let config = Config::load(&places.config, global)?;
        ui.settle(config.quiet.value, config.verbose.value > 0);
        Ok(Self {
            ui: ui.clone(),
            config,
            places,
        })
    }
}
