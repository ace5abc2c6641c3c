//! Tor in the process, by arti: the way out to onion services, and an onion service of one's own. The only crate that links arti.
