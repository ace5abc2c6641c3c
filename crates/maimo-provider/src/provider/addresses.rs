//! Where a provider says it is: for each network a list signed by the auth key of that face, with a number that only grows.

use std::sync::Arc;

use bytes::Bytes;
use maimo_core::{
    address::{AddressList, Addresses, Network},
    clock::Timestamp,
};
use maimo_net::service::ServiceError;

use super::{Inner, Provider};
use crate::{
    error::{ProviderError, of_ledger},
    ledger::{Record, RecordKind},
};

impl Provider {
    /// Publishes where clients of a network find it. Signed anew only if it is not what was published before.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Offer`] for addresses of another network; no volume whose log could take it in.
    pub fn publish(
        &self,
        network: Network,
        addresses: Addresses,
        now: Timestamp,
    ) -> Result<(), ProviderError> {
        if addresses.network() != network {
            return Err(ProviderError::Offer {
                what: "the addresses are of another network",
            });
        }
        let key = self.inner.keys.auth(network);
        let signer = key.public();
        let name = *signer.as_bytes();
        let known = self
            .inner
            .readers
            .read(|rows| rows.record(RecordKind::Addresses, &name))?;
        let list = known.and_then(|record| AddressList::verify(&record.body, &signer).ok());
        if list.is_some_and(|list| *list.addresses() == addresses) {
            return Ok(());
        }
        let log = self.inner.log_for_new()?;
        let key = Arc::clone(key);
        self.inner.committer.run(move |batch| {
            let known = batch.rows.record(RecordKind::Addresses, &name)?;
            let list = known
                .as_ref()
                .and_then(|record| AddressList::verify(&record.body, &signer).ok());
            // At least the time: a provider that came back from its words alone does not know how far it had counted.
            let sequence = list.map_or(0, |list| list.sequence() + 1).max(now.0);
            let list = AddressList::sign(addresses, sequence, &key);
            let record = Record {
                kind: RecordKind::Addresses,
                name,
                version: sequence.max(known.map_or(0, |record| record.version + 1)),
                log,
                body: list.encode(),
            };
            batch.put_record(&record, now)
        })?;
        Ok(())
    }
}

impl Inner {
    /// Returns the list of a network, encoded.
    pub(crate) fn addresses(&self, network: Network) -> Result<Option<Bytes>, ServiceError> {
        let name = *self.keys.auth(network).public().as_bytes();
        let record = self
            .readers
            .read(|rows| rows.record(RecordKind::Addresses, &name));
        let record = record.map_err(|error| of_ledger(&error))?;
        Ok(record.map(|record| record.body.into()))
    }
}
