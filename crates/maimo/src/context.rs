//! [`Context`]: what every command has at hand.

use std::{
    env, io,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use maimo_client::{
    client::{Client, OpenOptions},
    error::ClientError,
    progress::{Event, Phase},
    view::View,
};
use maimo_net::{connect::Connector, in_process::InProcess};
use maimo_provider::provider::Provider;

use crate::{
    cli::Global,
    config::Config,
    connect::{self, Folders},
    control::{self, Answer, Request},
    daemon::{AtWork, Owner, Task, Turn},
    error::{CommandError, Exit},
    logs::{self, Usual},
    network::Network,
    passphrase::{self, Secret},
    places::Places,
    ui::Ui,
};

/// How long what another process has open is tried again, how long is waited between, and after what time the user hears of it.
const IN_USE: Duration = Duration::from_secs(5);
const IN_USE_PAUSE: Duration = Duration::from_millis(50);
const IN_USE_TOLD: Duration = Duration::from_secs(1);

/// The outputs, the configuration and the node's folders.
pub(crate) struct Context {
    pub(crate) ui: Ui,
    pub(crate) config: Config,
    pub(crate) places: Places,
    /// The way to the network; nothing is open before it is used.
    pub(crate) network: Arc<Network>,
    /// Where the command was called.
    pub(crate) folder: Folder,
    /// The command in the node that owns the store; nothing in a process of its own.
    pub(crate) guest: Option<Guest>,
}

/// Where a command was called.
#[derive(Debug)]
pub(crate) enum Folder {
    /// Where this process was.
    Own,
    /// Where another was; nothing where that is gone.
    Of(Option<PathBuf>),
}

/// A command that another process has this one do.
pub(crate) struct Guest {
    pub(crate) owner: Owner,
    pub(crate) task: Task,
}

/// Patience with another process that has what is to be opened: one that just starts, or just ends. Even one that was killed ends only after
/// a while, and until then its socket can be connected to and its locks are held.
pub(crate) struct Patience<'a> {
    ui: &'a Ui,
    since: Instant,
    is_told: bool,
}

/// The client, while a command has it.
pub(crate) enum Held {
    Own(Box<Client>),
    Turn(Box<Turn>),
}

/// What the node knows, while a command looks at it.
pub(crate) struct Looking {
    view: View,
    /// Nobody else has the home open then.
    _client: Option<Client>,
}

impl Context {
    /// Reads the configuration; `ui` then heeds it.
    ///
    /// # Errors
    ///
    /// It does not parse, or nothing says where it is.
    pub(crate) fn new(global: &Global, usual: Usual, ui: &mut Ui) -> Result<Self, CommandError> {
        let mut places = Places::find(global.home.as_deref())?;
        if let Some(file) = &global.config {
            places.config.clone_from(file);
        }
        let config = Config::load(&places.config, global)?;
        ui.settle(config.quiet.value, config.verbose.value > 0);
        logs::start(&config, usual, ui.is_json())?;
        Ok(Self {
            network: Arc::new(Network::new(&config, &places, ui.link().clone())),
            ui: ui.clone(),
            config,
            places,
            folder: Folder::Own,
            guest: None,
        })
    }

    /// Opens the client, whose providers must be there.
    ///
    /// # Errors
    ///
    /// There is none, another process has it, or the passphrase is wrong.
    pub(crate) fn client(&self) -> Result<Held, CommandError> {
        self.client_by(connect::existing())
    }

    /// Opens the client, folders by `folders`. Asks for a passphrase where one is needed and none was given.
    pub(crate) fn client_by(&self, folders: InProcess) -> Result<Held, CommandError> {
        let Some(guest) = &self.guest else {
            let (client, _) = self.open(&self.network.and(folders))?;
            return Ok(Held::Own(Box::new(client)));
        };
        let waits = |what: &str| {
            self.ui
                .say(&format!("Waiting for `{what}`, which came first."));
        };
        let turn = guest.owner.turn(&guest.task, &waits);
        let mut turn = turn.map_err(|error| {
            let is_stopping = guest.owner.is_over() && matches!(error, ClientError::Cancelled(_));
            if is_stopping {
                return CommandError::new(
                    Exit::Interrupted,
                    "interrupted",
                    "the node that runs here stops",
                )
                .hint("run it again when it has, or when it runs again");
            }
            error.into()
        })?;
        turn.folders().open_by(folders);
        // What a command finds is what it would find without a node.
        turn.try_mirrors_again();
        Ok(Held::Turn(Box::new(turn)))
    }

    /// Begins to be patient with another process that has this node's home or provider.
    pub(crate) fn patience(&self) -> Patience<'_> {
        Patience {
            ui: &self.ui,
            since: Instant::now(),
            is_told: false,
        }
    }

    /// Returns what the node that runs here is at; nothing where none does.
    pub(crate) fn at_work(&self) -> Option<AtWork> {
        self.guest.as_ref().map(|guest| guest.owner.at_work())
    }

    /// Opens what the node knows, to be looked at: nothing is waited for.
    ///
    /// # Errors
    ///
    /// As [`Self::client`].
    pub(crate) fn view(&self) -> Result<Looking, CommandError> {
        if let Some(guest) = &self.guest {
            return Ok(Looking {
                view: guest.owner.viewer().look()?,
                _client: None,
            });
        }
        let (client, _) = self.open(&self.network.and(connect::existing()))?;
        Ok(Looking {
            view: client.viewer().look()?,
            _client: Some(client),
        })
    }

    /// Opens the client for as long as this process runs.
    ///
    /// # Errors
    ///
    /// As [`Self::client`].
    pub(crate) fn owner(&self) -> Result<Owner, CommandError> {
        let folders = Folders::new();
        let connector = self.network.and(folders.clone());
        let (client, passphrase) = self.open(&connector)?;
        let home = self.places.home.clone();
        let spool_bytes_max = self.config.spool_limit.value.count();
        let reopen = move || {
            let options = OpenOptions {
                passphrase: passphrase.clone(),
                spool_bytes_max,
                ..OpenOptions::new(Arc::clone(&connector))
            };
            Client::open(&home, options)
        };
        Ok(Owner::new(client, folders, Box::new(reopen)))
    }

    /// Opens the client, and returns the passphrase that it took, if one was said.
    fn open(
        &self,
        connector: &Arc<dyn Connector>,
    ) -> Result<(Client, Option<Secret>), CommandError> {
        let home = &self.places.home;
        let open = |passphrase: Option<Secret>| {
            let options = OpenOptions {
                passphrase: passphrase.clone(),
                spool_bytes_max: self.config.spool_limit.value.count(),
                ..OpenOptions::new(Arc::clone(connector))
            };
            Ok((Client::open(home, options)?, passphrase))
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

    /// Has the provider of this node do something: here if nobody else has it open, else where it is served.
    ///
    /// # Errors
    ///
    /// This node is none, what is asked is refused, or another process has it open that takes no commands.
    pub(crate) fn ask_provider(&self, request: Request) -> Result<Answer, CommandError> {
        let progress = self.ui.progress();
        let tell = |of: Option<(u64, u64)>| {
            let control = progress.control();
            if let Some((bytes_done, bytes)) = of {
                control.tell(Event::Total { files: 0, bytes });
                control.tell(Event::Done {
                    files: 0,
                    bytes: bytes_done,
                });
            }
            !control.is_cancelled()
        };
        match &request {
            Request::Scrub => progress.control().tell(Event::Phase(Phase::Proving)),
            Request::DrainVolume { .. } => progress.control().tell(Event::Phase(Phase::Storing)),
            _ => {}
        }
        let socket = control::socket_of(&self.places.provider);
        let mut patience = self.patience();
        loop {
            let error = match self.provider() {
                Ok(provider) => {
                    // Others of the owner's commands need not wait for one that takes long; where that cannot be, they have to.
                    let _served = matches!(request, Request::Scrub | Request::DrainVolume { .. })
                        .then(|| control::serve(provider.clone(), &socket, None));
                    return control::perform(&provider, request, &|done, total| {
                        tell(Some((done, total)))
                    });
                }
                Err(error) => error,
            };
            if let Some(answer) = control::ask(&socket, &request, &tell)? {
                return Ok(answer);
            }
            // Another command of the owner has it for a moment, or the node is just starting or ending.
            if !error.is_in_use() || !tell(None) || !patience.pauses() {
                return Err(error);
            }
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

impl Patience<'_> {
    /// Waits a moment; returns false once that was done for long enough.
    pub(crate) fn pauses(&mut self) -> bool {
        let waited = self.since.elapsed();
        if waited >= IN_USE {
            return false;
        }
        if waited >= IN_USE_TOLD && !std::mem::replace(&mut self.is_told, true) {
            self.ui.say("Waiting for another maimo process.");
        }
        thread::sleep(IN_USE_PAUSE);
        true
    }
}

impl Folder {
    /// Returns a path from there.
    ///
    /// # Errors
    ///
    /// The path does not say from where, and the folder is gone.
    pub(crate) fn path(&self, path: &Path) -> Result<PathBuf, CommandError> {
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let folder = match self {
            Self::Own => env::current_dir(),
            Self::Of(folder) => folder.clone().ok_or(io::ErrorKind::NotFound.into()),
        };
        let folder = folder.map_err(|error| CommandError::io("find", Path::new("."), &error))?;
        Ok(folder.join(path))
    }
}

impl Deref for Held {
    type Target = Client;

    fn deref(&self) -> &Client {
        match self {
            Self::Own(client) => client,
            Self::Turn(turn) => turn,
        }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Client {
        match self {
            Self::Own(client) => client,
            Self::Turn(turn) => turn,
        }
    }
}

impl Deref for Looking {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}
