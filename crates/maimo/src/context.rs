//! [`Context`]: what every command has at hand.

use std::sync::Arc;

use maimo_client::{
    client::{Client, OpenOptions},
    error::ClientError,
};
use maimo_net::connect::Connector;
use maimo_provider::provider::Provider;

use crate::{
    cli::Global,
    config::Config,
    connect,
    error::{CommandError, Exit},
    logs::{self, Usual},
    passphrase,
    places::Places,
    ui::Ui,
};

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
        logs::start(&config, Usual::Command, ui.is_json())?;
        Ok(Self {
            ui: ui.clone(),
            config,
            places,
        })
    }

    /// Opens the client, whose providers must be there.
    ///
    /// # Errors
    ///
    /// There is none, another process has it, or the passphrase is wrong.
    pub(crate) fn client(&self) -> Result<Client, CommandError> {
        self.client_with(&connect::existing())
    }

    /// Opens the client with another way to providers. Asks for a passphrase where one is needed and none was given.
    pub(crate) fn client_with(
        &self,
        connector: &Arc<dyn Connector>,
    ) -> Result<Client, CommandError> {
        let home = &self.places.home;
        let open = |passphrase| {
            let connector = Arc::clone(connector);
            let options = OpenOptions {
                passphrase,
                ..OpenOptions::new(connector)
            };
            Client::open(home, options)
        };
        let given = passphrase::given(&self.config)?;
        let was_given = given.is_some();
        match open(given) {
            Err(ClientError::WrongPassphrase) if !was_given => {
                match passphrase::ask(&self.ui, "Passphrase: ")? {
                    Some(passphrase) => Ok(open(Some(passphrase))?),
                    None => Err(CommandError::from(ClientError::WrongPassphrase)
                        .hint("use --passphrase-file, --passphrase-command or MAIMO_PASSPHRASE")),
                }
            }
            opened => Ok(opened?),
        }
    }

    /// Opens the provider of this node.
    ///
    /// # Errors
    ///
    /// This node is none, or another process has it open.
    pub(crate) fn provider(&self) -> Result<Provider, CommandError> {
        let home = &self.places.provider;
        if !Provider::exists(home) {
            return Err(CommandError::new(
                Exit::NoNode,
                "bad_input",
                "this node stores for nobody: it has no volume",
            )
            .hint("run `maimo volume add PATH --capacity SIZE`"));
        }
        Ok(Provider::open(home)?)
    }
}
