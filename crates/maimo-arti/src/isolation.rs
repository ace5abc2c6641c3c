//! Which streams arti may put on one circuit.

use arti_client::isolation::IsolationHelper;
use maimo_net::transport::Isolation;

/// Our isolation in arti's terms. Compared by value: a map from ours to arti's tokens would grow with every circuit ever asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circuit(pub(crate) Isolation);

impl IsolationHelper for Circuit {
    fn compatible_same_type(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn join_same_type(&self, other: &Self) -> Option<Self> {
        self.compatible_same_type(other).then_some(*self)
    }
}

#[cfg(test)]
mod tests {
    use arti_client::isolation::Isolation as _;

    use super::*;

    #[test]
    fn only_streams_of_equal_isolation_share_a_circuit() {
        let [a, b] = [1, 2].map(|byte| Circuit(Isolation([byte; 16])));
        assert!(a.compatible(&a.clone()));
        assert!(!a.compatible(&b));
        assert!(a.join(&b).is_none());
        assert!(a.join(&a.clone()).is_some());
        assert!(!a.compatible(&arti_client::IsolationToken::no_isolation()));
    }
}
