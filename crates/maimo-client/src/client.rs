//! [`Client`]: a node, opened; one method for each thing that can be done with it.
//!
//! Every method blocks until it is done, tells how far it is through its [`Control`], and stops where nothing is half done when that says so.
//! Two clients of two homes may be open in one process; a second one of the same home is refused.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use maimo_net::connect::Connector;
use maimo_vault::{
    keys::MasterSecret,
    name::{SourceId, WriterId},
    phrase::Phrase,
};

use crate::{
    catalog::Catalog,
    channel::{ChannelReport, OpenChannelRequest},
    clock::Clock,
    dump::{DumpError, DumpRequest},
    engine::Engine,
    error::ClientError,
    home::Home,
    journal_cache::JournalCache,
    keys::StoreKeys,
    node_state::{self, NodeState},
    progress::Control,
    random,
    recover::{RecoverReport, RecoverRequest},
    retrieve::{RetrieveReport, RetrieveRequest},
    spool::{SPOOL_BYTES, Spool},
    status::StatusReport,
    store::{StoreReport, StoreRequest},
    view::{View, Viewer},
};

/// A node of one's own, open: this process alone works on its home.
///
/// ```no_run
/// use std::{path::Path, sync::Arc};
///
/// use maimo_client::{
///     channel::OpenChannelRequest,
///     client::{Client, InitOptions, OpenOptions},
///     progress::Control,
/// };
///
/// # fn connector() -> Arc<dyn maimo_net::connect::Connector> { unimplemented!() }
/// # fn main() -> Result<(), maimo_client::error::ClientError> {
/// let home = Path::new("/home/u/.maimo");
/// let node = Client::init(home, &InitOptions::default())?;
/// // The 24 words are shown once: whoever has them has the store.
/// let words = node.phrase.expect("a new store has a new phrase");
/// let mut client = Client::open(home, OpenOptions::new(connector()))?;
/// let channel = client.open_channel(
///     &OpenChannelRequest::new("dir:/mnt/usb/maimo"),
///     &Control::default(),
/// )?;
/// println!("{}", channel.root);
/// # drop(words);
/// # Ok(()) }
/// ```
pub struct Client {
    pub(crate) engine: Engine,
    /// Whether the key is under a passphrase: then the catalog, which has every name in clear, does not outlive this process.
    is_sealed: bool,
}

/// How a node begins.
#[derive(Default)]
pub struct InitOptions {
    /// The words of a store there is already; a new one is made without.
    pub phrase: Option<zeroize::Zeroizing<String>>,
    /// What this machine is called in the store; its host name unless said.
    pub source: Option<String>,
    /// What the key file is to be sealed under; nothing leaves it in clear.
    pub passphrase: Option<zeroize::Zeroizing<String>>,
}

/// A node that has begun.
pub struct Initialised {
    /// What this machine is called in the store.
    pub source: String,
    /// The words, if the store is new: to be shown once.
    pub phrase: Option<Phrase>,
}

/// How a node is opened.
pub struct OpenOptions {
    /// The way to providers.
    pub connector: Arc<dyn Connector>,
    /// What the key file is sealed under, if it is.
    pub passphrase: Option<zeroize::Zeroizing<String>>,
    /// What tells the time.
    pub clock: Clock,
    /// How many bytes of sealed packs are kept on this disk until providers over networks have them; then sealing waits. One pack has room always.
    pub spool_bytes_max: u64,
}

impl OpenOptions {
    /// Opens a node whose key is in clear, by the system's clock.
    pub fn new(connector: Arc<dyn Connector>) -> Self {
        Self {
            connector,
            passphrase: None,
            clock: Clock::default(),
            spool_bytes_max: SPOOL_BYTES,
        }
    }
}

impl Client {
    /// Makes a node in the folder `home`: a new store, or one more machine of the store whose words are given.
    ///
    /// # Errors
    ///
    /// [`ClientError::NodeExists`]; [`ClientError::Phrase`] for words that are none; that the folder cannot be written.
    pub fn init(home: &Path, options: &InitOptions) -> Result<Initialised, ClientError> {
        let given = options.phrase.as_ref().map(|words| {
            MasterSecret::from_phrase(words).map_err(|error| ClientError::Phrase(error.to_string()))
        });
        let given = given.transpose()?;
        let is_new = given.is_none();
        let secret = given.unwrap_or_else(|| MasterSecret::generate(&mut random::system()));
        let source = options.source.clone().unwrap_or_else(host_name);
        let home = Home::prepare(home)?;
        NodeState::create(
            &home.node_state(),
            WriterId(random::id()),
            SourceId(random::id()),
            &source,
        )?;
        let passphrase = options.passphrase.as_ref();
        home.write_key(&secret, passphrase.map(|passphrase| passphrase.as_str()))?;
        Ok(Initialised {
            source,
            phrase: is_new.then(|| secret.phrase()),
        })
    }

    /// Opens a node. Nothing is asked of a provider, unless the catalog is missing and the journal cache with it.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoNode`], [`ClientError::Locked`], [`ClientError::WrongPassphrase`], or that local state cannot be read.
    pub fn open(home: &Path, options: OpenOptions) -> Result<Self, ClientError> {
        let home = Home::open(home)?;
        let passphrase = options.passphrase.as_ref();
        let is_sealed = home.is_sealed()?;
        let secret = home.secret(passphrase.map(|passphrase| passphrase.as_str()))?;
        let path = home.catalog();
        let catalog = match Catalog::open(&path) {
            Err(error) if error.wants_rebuild() => Catalog::replace(&path)?,
            opened => opened?,
        };
        let mut engine = Engine {
            keys: Arc::new(StoreKeys::new(&secret)),
            node: NodeState::open(&home.node_state())?,
            lax: node_state::connect_lax(&home.node_state())?,
            journal: JournalCache::open(&home.journal())?,
            spool: Arc::new(Spool::open(
                &home.node_state(),
                home.spool(),
                options.spool_bytes_max,
            )?),
            connector: options.connector,
            clock: options.clock,
            behind: None,
            not_held: std::collections::HashSet::default(),
            open: Vec::new(),
            shown: std::collections::BTreeMap::default(),
            away: Arc::default(),
            ahead: std::collections::BTreeMap::default(),
            deciding: None,
            merged: std::collections::HashSet::default(),
            joined: None,
            recent: Arc::default(),
            catalog,
            secret: Arc::new(secret),
            home,
        };
        match engine.refresh_catalog(&Control::default()) {
            // Whatever needs the provider, or the whole catalog, says so itself.
            Err(ClientError::Provider { channel, source }) => {
                engine.behind = Some((channel, source));
            }
            refreshed => refreshed?,
        }
        Ok(Self { engine, is_sealed })
    }

    /// Begins the node's state anew where its file is gone or damaged, beside the key that is still there; the old file is set aside, as
    /// `node.sqlite.damaged`. Returns whether it was so. The node is then a new machine of its store, to be [recovered](Self::recover).
    ///
    /// # Errors
    ///
    /// [`ClientError::NoNode`], [`ClientError::Locked`], or that the folder cannot be written.
    pub fn begin_anew(home: &Path, source: Option<&str>) -> Result<bool, ClientError> {
        let home = Home::open(home)?;
        let state = home.node_state();
        if !NodeState::is_lost(&state)? {
            return Ok(false);
        }
        for suffix in ["", "-wal", "-shm"] {
            let mut from = state.clone().into_os_string();
            from.push(suffix);
            let mut to = state.clone().into_os_string();
            to.push(".damaged");
            to.push(suffix);
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ClientError::io("rename", from)(error));
                }
                _ => {}
            }
        }
        let label = source.map_or_else(host_name, str::to_owned);
        // A writer of its own: nobody knows which names the old one has given out.
        let (writer, source) = (WriterId(random::id()), SourceId(random::id()));
        NodeState::create(&state, writer, source, &label)?;
        // Of a state that nobody vouches for any more.
        drop(Catalog::replace(&home.catalog())?);
        Ok(true)
    }

    /// Opens a channel: from now on its provider stores for this node. The first one begins the store.
    ///
    /// # Errors
    ///
    /// That the provider cannot be reached, or holds a store of the same phrase already: then it is to be recovered.
    pub fn open_channel(
        &mut self,
        request: &OpenChannelRequest,
        control: &Control,
    ) -> Result<ChannelReport, ClientError> {
        self.engine.open_channel(request, control)
    }

    /// Returns the channels and what their providers say of them.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &mut Client) -> Result<(), ClientError> {
    /// for channel in client.channels()? {
    ///     assert!(channel.trouble.is_none(), "{} does not answer", channel.name);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That local state cannot be read; a provider that does not answer is told in its report.
    pub fn channels(&mut self) -> Result<Vec<ChannelReport>, ClientError> {
        self.engine.channel_reports()
    }

    /// Returns who opens views of this node: what it knows, whatever it is doing.
    ///
    /// ```no_run
    /// # use maimo_client::{browse::ListRequest, client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// let viewer = client.viewer();
    /// std::thread::spawn(move || viewer.look()?.runs());
    /// # Ok(()) }
    /// ```
    pub fn viewer(&self) -> Viewer {
        let home = &self.engine.home;
        let behind = self.engine.behind.clone();
        Viewer::new(
            home.catalog(),
            home.node_state(),
            home.spool(),
            Arc::clone(&self.engine.secret),
            behind,
        )
    }

    /// Returns a view of what this node knows now.
    pub(crate) fn view(&self) -> Result<View, ClientError> {
        self.viewer().look()
    }

    /// Lets go of providers in this process until they are needed again: of a node that is open for long, a folder is to be free for other
    /// machines, and its disk to be unmounted. Sessions over networks stay.
    pub fn rest(&mut self) {
        let is_far = |address: &String| !address.starts_with("dir:");
        let open = &mut self.engine.open;
        open.retain(|channel| channel.addresses.iter().all(is_far));
    }

    /// Forgets a channel that the layout does not name. It deletes nothing at the provider.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn example(client: &mut Client) -> Result<(), ClientError> {
    /// client.close_channel("old disk", &Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NoChannel`], or that the store is still kept on it.
    pub fn close_channel(
        &mut self,
        name: &str,
        control: &Control,
    ) -> Result<ChannelReport, ClientError> {
        self.engine.close_channel(name, control)
    }

    /// Writes files of the store below a folder, as they were: whole and verified, or not at all.
    ///
    /// A stored path is absolute, so `/home/u/a` retrieved to `DIR` is `DIR/home/u/a`. What is there already and the same counts as done; what
    /// is there and another is not overwritten unless told. What is wrong with one file is in the report, and the rest goes on.
    ///
    /// ```no_run
    /// use maimo_client::{progress::Control, retrieve::RetrieveRequest};
    ///
    /// # fn example(client: &mut maimo_client::client::Client) -> Result<(), maimo_client::error::ClientError> {
    /// let request = RetrieveRequest {
    ///     paths: vec!["/home/u/notes".into()],
    ///     to: "/tmp/retrieved".into(),
    ///     ..RetrieveRequest::default()
    /// };
    /// let report = client.retrieve(&request, &Control::default())?;
    /// println!("{} files, {} failed", report.files, report.errors);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Nothing in the store matches; no channel can be reached; the folder cannot be used; the disk is full; it was cancelled.
    pub fn retrieve(
        &mut self,
        request: &RetrieveRequest,
        control: &Control,
    ) -> Result<RetrieveReport, ClientError> {
        self.engine.retrieve(request, control)
    }

    /// Writes the content of one file to `out`, each part verified before, and returns how many bytes that were.
    ///
    /// ```no_run
    /// use maimo_client::{
    ///     dump::{DumpError, DumpRequest},
    ///     progress::Control,
    /// };
    ///
    /// # fn example(client: &mut maimo_client::client::Client) -> Result<(), DumpError> {
    /// let mut bytes = Vec::new();
    /// let request = DumpRequest {
    ///     path: "/home/u/notes/today.txt".into(),
    ///     ..DumpRequest::default()
    /// };
    /// client.dump(&request, &mut bytes, &Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What is not a file, or cannot be had to its end; what was written until then is the file's beginning.
    pub fn dump(
        &mut self,
        request: &DumpRequest,
        out: &mut dyn Write,
        control: &Control,
    ) -> Result<u64, DumpError> {
        self.engine.dump(request, out, control)
    }

    /// Stores what changed below some paths since last time, as new revisions. Cut off, it is finished by running it again.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control, store::StoreRequest};
    /// # fn store(client: &mut Client) -> Result<(), ClientError> {
    /// let request = StoreRequest {
    ///     paths: vec!["/home/u/photos".into()],
    ///     ..StoreRequest::default()
    /// };
    /// let report = client.store(&request, &Control::default())?;
    /// for (channel, root) in &report.roots {
    ///     println!("{channel} {root}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What ends the run: no channel, a provider that does not answer or whose cap is exceeded, a local disk that fails. What could not be
    /// read is in the report.
    pub fn store(
        &mut self,
        request: &StoreRequest,
        control: &Control,
    ) -> Result<StoreReport, ClientError> {
        self.engine.store(request, control)
    }

    /// Makes this node's catalog from what a provider holds: the node was given the store's words when it began.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control, recover::RecoverRequest};
    /// # fn recover(client: &mut Client) -> Result<(), ClientError> {
    /// let request = RecoverRequest {
    ///     address: "dir:/mnt/usb/maimo".to_owned(),
    ///     root: None,
    ///     from_packs: false,
    /// };
    /// let report = client.recover(&request, &Control::default())?;
    /// println!("the newest state that {} shows has {} files", report.channel, report.files);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That the provider cannot be reached or holds nothing of this phrase, or that what it shows is not what its root says.
    pub fn recover(
        &mut self,
        request: &RecoverRequest,
        control: &Control,
    ) -> Result<RecoverReport, ClientError> {
        self.engine.recover(request, control)
    }

    /// Returns what this node is and how it stands; asks no provider.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// let status = client.status()?;
    /// assert!(status.is_phrase_verified, "check the words once");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That local state cannot be read.
    pub fn status(&self) -> Result<StatusReport, ClientError> {
        self.view()?.status()
    }

    /// Returns the 32 bytes of each channel, as they were last acknowledged or read.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// for root in client.root()? {
    ///     println!("{} {}", root.root, root.channel);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That local state cannot be read.
    pub fn root(&self) -> Result<Vec<crate::status::RootReport>, ClientError> {
        self.view()?.root()
    }

    /// Returns whether the words are this store's, and remembers that they were once shown to be: deleting local files wants that.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// let words = "the twenty-four words, as they were written down";
    /// assert!(client.verify_phrase(words)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::Phrase`] for words that are no phrase at all.
    pub fn verify_phrase(&self, words: &str) -> Result<bool, ClientError> {
        let told = MasterSecret::from_phrase(words)
            .map_err(|error| ClientError::Phrase(error.to_string()))?;
        let matches = told.store_id(crate::keys::EPOCH) == self.engine.keys.store;
        if matches {
            self.engine.node.set_flag(PHRASE_VERIFIED, true)?;
        }
        Ok(matches)
    }
}

/// The flag that the phrase was verified once.
pub(crate) const PHRASE_VERIFIED: &str = "phrase verified";

impl Drop for Client {
    fn drop(&mut self) {
        if self.is_sealed {
            // The sealed journal stays: the next process builds the catalog from it.
            for suffix in ["", "-wal", "-shm"] {
                let mut path = self.engine.home.catalog().into_os_string();
                path.push(suffix);
                let _ = fs::remove_file(PathBuf::from(path));
            }
        }
    }
}

fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().into_owned();
    if name.is_empty() {
        "this machine".to_owned()
    } else {
        name
    }
}
