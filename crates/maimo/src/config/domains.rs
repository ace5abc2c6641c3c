//! [`DomainFolders`]: the key `domains`.

use std::path::{Path, PathBuf};

use maimo_client::pipeline::DomainFolder;
use maimo_vault::name::Domain;
use toml::Value;

use super::Settable;

/// Folders with the names of their dedup domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DomainFolders(Vec<(String, PathBuf)>);

impl DomainFolders {
    /// Returns them as a store takes them.
    pub(crate) fn folders(&self) -> Vec<DomainFolder> {
        let folder = |(name, folder): &(String, PathBuf)| DomainFolder {
            folder: folder.clone(),
            domain: Domain::named(name),
        };
        self.0.iter().map(folder).collect()
    }

    fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut all: Vec<(String, PathBuf)> = Vec::new();
        for text in texts {
            let (name, folder) = text
                .split_once('=')
                .map(|(name, folder)| (name.trim(), Path::new(folder.trim())))
                .filter(|(name, folder)| !name.is_empty() && folder.is_absolute())
                .ok_or_else(|| {
                    format!("`{text}` is no name and absolute folder, as in mail=/home/u/Mail")
                })?;
            let domain = Domain::named(name);
            if let Some((other, _)) = all
                .iter()
                .find(|(other, _)| other != name && Domain::named(other) == domain)
            {
                return Err(format!(
                    "`{name}` and `{other}` are short for the same number: choose another name"
                ));
            }
            // As walks name folders: without a slash at the end.
            all.push((name.to_owned(), folder.components().collect()));
        }
        Ok(Self(all))
    }

    fn texts(&self) -> Vec<String> {
        let text = |(name, folder): &(String, PathBuf)| format!("{name}={}", folder.display());
        self.0.iter().map(text).collect()
    }
}

impl Settable for DomainFolders {
    fn from_toml(value: &Value) -> Result<Self, String> {
        Self::parse(Vec::<String>::from_toml(value)?.iter().map(String::as_str))
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(Vec::<String>::from_text(text)?.iter().map(String::as_str))
    }

    fn to_toml(&self) -> Option<Value> {
        self.texts().to_toml()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_and_an_absolute_folder() {
        let read = |text: &str| DomainFolders::parse([text]);
        let mail = read("mail = /home/u/Mail/").unwrap();
        assert_eq!(mail.texts(), ["mail=/home/u/Mail"]);
        assert_eq!(mail.folders()[0].domain, Domain::named("mail"));
        assert_eq!(read(&mail.texts()[0]), Ok(mail));
        for wrong in ["", "mail", "=/home", "mail=Mail", "mail="] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
