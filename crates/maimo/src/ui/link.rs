//! [`Link`]: how the way to the network stands, for whoever draws progress: how far Tor is, how many circuits there are.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Tells how the way to the network stands. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Link(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tor: Option<Tor>,
    circuits: Option<Box<dyn Fn() -> usize + Send>>,
    told: Option<Listener>,
}

/// Whoever is told of each change.
type Listener = Arc<dyn Fn(&Tor) + Send + Sync>;

/// How far Tor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tor {
    /// In percent.
    pub(crate) percent: u8,
    /// What stands in the way, if anything does.
    pub(crate) trouble: Option<&'static str>,
}

impl Tor {
    /// Returns whether it is connected.
    pub(crate) const fn is_ready(self) -> bool {
        self.percent >= 100
    }

    /// Returns whether this is worth a line of its own after `before`: a quarter more of the way, or another trouble.
    pub(crate) fn is_news(self, before: Option<Self>) -> bool {
        before.is_none_or(|before| {
            self.percent / 25 != before.percent / 25 || self.trouble != before.trouble
        })
    }
}

impl fmt::Display for Tor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() {
            f.write_str("Tor is connected")?;
        } else {
            write!(f, "connecting to Tor: {} %", self.percent)?;
        }
        if let Some(trouble) = self.trouble {
            write!(f, " ({trouble})")?;
        }
        Ok(())
    }
}

impl Link {
    /// Notes how far Tor is, and tells whoever listens.
    pub(crate) fn tor(&self, tor: Tor) {
        let mut state = self.lock();
        if state.tor.as_ref() == Some(&tor) {
            return;
        }
        state.tor = Some(tor);
        let told = state.told.clone();
        drop(state);
        // Unlocked: whoever is told draws, and asks here for what else there is.
        if let Some(told) = told {
            told(&tor);
        }
    }

    /// Notes how to count circuits.
    pub(crate) fn watch_circuits(&self, count: impl Fn() -> usize + Send + 'static) {
        self.lock().circuits = Some(Box::new(count));
    }

    /// Has each change of Tor told, until the next who listens.
    pub(crate) fn listen(&self, told: impl Fn(&Tor) + Send + Sync + 'static) {
        self.lock().told = Some(Arc::new(told));
    }

    /// Returns how far Tor is, while it is not there yet.
    pub(crate) fn connecting(&self) -> Option<Tor> {
        self.lock().tor.filter(|tor| !tor.is_ready())
    }

    /// Returns how many circuits there are, if a network is used.
    pub(crate) fn circuits(&self) -> Option<usize> {
        self.lock().circuits.as_ref().map(|count| count())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Each field is whole at all times.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_tor_is_told_once_and_who_is_told_may_ask_back() {
        let link = Link::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (hears, asks) = (Arc::clone(&heard), link.clone());
        link.listen(move |tor| {
            let words = (tor.to_string(), asks.circuits());
            hears.lock().unwrap().push(words);
        });
        link.watch_circuits(|| 3);
        let tor = Tor {
            percent: 40,
            trouble: Some("this machine seems to be offline"),
        };
        link.tor(tor);
        link.tor(tor);
        assert_eq!(link.connecting(), Some(tor));
        link.tor(Tor {
            percent: 100,
            trouble: None,
        });
        assert_eq!(link.connecting(), None);
        let heard: Vec<_> = heard.lock().unwrap().clone();
        let offline = "connecting to Tor: 40 % (this machine seems to be offline)";
        assert_eq!(heard[0], (offline.to_owned(), Some(3)));
        assert_eq!(heard[1..], [("Tor is connected".to_owned(), Some(3))]);
    }

    #[test]
    fn not_every_percent_is_news() {
        let at = |percent| Tor {
            percent,
            trouble: None,
        };
        assert!(at(0).is_news(None));
        assert!(!at(24).is_news(Some(at(0))));
        assert!(at(25).is_news(Some(at(24))));
        assert!(at(100).is_news(Some(at(99))));
    }
}
