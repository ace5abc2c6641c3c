//! A private Tor network on this machine: C tor nodes on loopback, started for a test, a benchmark or the demonstration, and gone after it.
