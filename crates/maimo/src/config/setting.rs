//! [`Setting`]: a value and where it comes from, and how each type of value is read.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use crate::{cli::variable_of, error::CommandError};

/// Where a value comes from; the later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag,
}

impl Origin {
    /// Returns how directly it was said: the higher wins.
    pub(crate) const fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Variable(_) => 2,
            Self::Flag => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T: Settable> Setting<T> {
    /// Takes the first that speaks of variable, file and default.
    pub(super) fn resolve(
        field: &str,
        default: T,
        table: &Table,
        file: &Path,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, CommandError> {
        let key = field.replace('_', "-");
        let name = variable_of(&key);
        // Read even where a variable wins: a file that does not parse is an error at all times, not on some days.
        let in_file = table
            .get(&key)
            .map(T::from_toml)
            .transpose()
            .map_err(|wrong| {
                CommandError::config(format!("`{key}` in {}: {wrong}", file.display()))
                    .hint("set it right, or take it out for its default")
            })?;
        if let Some(text) = variable(&name) {
            let text = text
                .into_string()
                .map_err(|_| wrong_variable(&name, "not UTF-8"))?;
            let value = T::from_text(&text).map_err(|wrong| wrong_variable(&name, &wrong))?;
            return Ok(Self {
                value,
                origin: Origin::Variable(name),
            });
        }
        Ok(match in_file {
            Some(value) => Self {
                value,
                origin: Origin::File(file.to_owned()),
            },
            None => Self {
                value: default,
                origin: Origin::Default,
            },
        })
    }

    /// Lets a flag win, if it was given.
    pub(super) fn flag(&mut self, given: bool, value: T) {
        if given {
            self.value = value;
            self.origin = Origin::Flag;
        }
    }
}

fn wrong_variable(name: &str, wrong: &str) -> CommandError {
    CommandError::config(format!("the variable {name}: {wrong}"))
        .hint("set it right, or unset it: then the configuration file holds, or the default")
}

/// A type of value: how it is read from TOML and from a variable.
pub(crate) trait Settable: Sized {
    /// Reads it from TOML.
    fn from_toml(value: &Value) -> Result<Self, String>;
    /// Reads it from a variable.
    fn from_text(text: &str) -> Result<Self, String>;
    /// Returns it as TOML; nothing where that cannot hold it.
    fn to_toml(&self) -> Option<Value>;
}

impl Settable for bool {
    fn from_toml(value: &Value) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| "neither true nor false".to_owned())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        // The words that flags' variables take.
        match text.to_ascii_lowercase().as_str() {
            "1" | "y" | "yes" | "t" | "true" | "on" => Ok(true),
            "0" | "n" | "no" | "f" | "false" | "off" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        }
    }

    fn to_toml(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

impl Settable for u32 {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let number = value
            .as_integer()
            .and_then(|number| Self::try_from(number).ok());
        number.ok_or_else(|| "not a whole number from 0 up".to_owned())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is not a whole number from 0 up"))
    }

    fn to_toml(&self) -> Option<Value> {
        Some(Value::Integer(i64::from(*self)))
    }
}

impl Settable for String {
    fn from_toml(value: &Value) -> Result<Self, String> {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| "not a text".to_owned())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_toml(&self) -> Option<Value> {
        Some(Value::String(self.clone()))
    }
}

impl Settable for Vec<String> {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let list = value.as_array().and_then(|list| {
            let texts = list.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Self>>()
        });
        list.ok_or_else(|| "not a list of texts".to_owned())
    }

    /// One a line.
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn to_toml(&self) -> Option<Value> {
        Some(Value::Array(
            self.iter().cloned().map(Value::String).collect(),
        ))
    }
}
