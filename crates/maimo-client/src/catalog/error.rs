//! [`CatalogError`]: what the catalog may end with, by whether building it anew helps.

use maimo_core::{
    codec::ParseError,
    error::{Classify, ErrorKind, Retry},
};
use rusqlite::ErrorCode;
use thiserror::Error;

use crate::error::ClientError;

/// Why the catalog could not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The file is torn, cut short, or does not hold together: build it anew.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
    /// The file is no catalog at all.
    #[error("the file is not a catalog")]
    Foreign,
    /// Another version of Maimo made it: build it anew.
    #[error("the catalog has version {found}, not {expected}")]
    Version {
        /// The version in the file.
        found: i64,
        /// The version this program reads.
        expected: i64,
    },
    /// The disk or the database failed, and the catalog may well be whole.
    #[error("the catalog cannot be used")]
    Database(#[source] rusqlite::Error),
    /// A file of it cannot be deleted.
    #[error("cannot delete the old catalog")]
    Remove(#[source] std::io::Error),
    /// A record of before the position that the catalog does not have, as a repair writes them again: build it anew.
    #[error("the catalog is behind: it lacks a record of sequence {sequence}")]
    Behind {
        /// The sequence of the record.
        sequence: u64,
    },
    /// Records were handed over that are not in order, or beyond the position they are to lead to: the caller's mistake.
    #[error("records out of order at sequence {sequence}")]
    OutOfOrder {
        /// The sequence of the record.
        sequence: u64,
    },
    /// A pattern that is no glob.
    #[error("{pattern} is not a glob: {message}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
    /// No such run, or none that completed.
    #[error("no completed run of that name")]
    NoRun,
}

impl CatalogError {
    /// Returns whether the file should be set aside and the catalog built anew from the journal.
    pub const fn wants_rebuild(&self) -> bool {
        matches!(
            self,
            Self::Damaged(_) | Self::Foreign | Self::Version { .. } | Self::Behind { .. }
        )
    }

    /// Returns whether another connection was writing.
    pub(crate) fn is_busy(&self) -> bool {
        let code = match self {
            Self::Database(error) => error.sqlite_error_code(),
            _ => None,
        };
        matches!(
            code,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        )
    }
}

impl From<rusqlite::Error> for CatalogError {
    /// Tells damage from all else: what the database calls corrupt or no database, a table that is not there, a value of the wrong type.
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType,
            QueryReturnedNoRows, SqlInputError, SqliteFailure,
        };
        let damaged = match &error {
            SqliteFailure(failure, message) => match failure.code {
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation => true,
                // "no such table" and its kin, where the statement is prepared.
                ErrorCode::Unknown => message
                    .as_deref()
                    .is_some_and(|text| text.starts_with("no such")),
                _ => false,
            },
            SqlInputError { .. }
            | FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | QueryReturnedNoRows => true,
            _ => false,
        };
        if damaged {
            Self::Damaged(error.to_string())
        } else {
            Self::Database(error)
        }
    }
}

impl From<ParseError> for CatalogError {
    fn from(error: ParseError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<CatalogError> for ClientError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Database(source) => Self::Database {
                file: "catalog",
                source,
            },
            CatalogError::OutOfOrder { .. } => Self::Bug(error.to_string()),
            CatalogError::Pattern { .. } | CatalogError::NoRun => Self::Input {
                message: error.to_string(),
                hint: None,
            },
            _ => Self::Corrupt(error.to_string()),
        }
    }
}

impl Classify for CatalogError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Damaged(_) | Self::Foreign | Self::Version { .. } | Self::Behind { .. } => {
                ErrorKind::LocalCorrupt
            }
            Self::Database(_) | Self::Remove(_) => ErrorKind::LocalIo,
            Self::OutOfOrder { .. } => ErrorKind::Bug,
            Self::Pattern { .. } | Self::NoRun => ErrorKind::BadInput,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        self.wants_rebuild()
            .then_some("delete the catalog file: it is rebuilt from the journal")
    }
}
