//! [`Page`]: figures in the text format that Prometheus reads, version 0.0.4.
//!
//! It writes and knows nothing: which figures there are is for [`crate::daemon`] to say.
//!
//! Invariant: what a name or a label holds cannot end the line or the quotes that it stands in.

use std::fmt::Write as _;

/// What a page of this format is called in HTTP.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Figures being written.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

/// Figures of one name being written.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

/// What becomes of a figure with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows, and begins anew with the process. Its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Page {
    /// Begins figures of a name: small letters, digits and underscores.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        debug_assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{name}"
        );
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { page: self, name }
    }

    /// Writes the one figure of a name.
    pub(crate) fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// Returns all that was written.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Writes a figure, told from others of its name by these labels and their values.
    pub(crate) fn sample(&mut self, labels: &[(&'static str, &str)], value: u64) {
        let out = &mut self.page.0;
        out.push_str(self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            out.push_str(label);
            out.push_str("=\"");
            for char in text.chars() {
                match char {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    char => out.push(char),
                }
            }
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        let _ = writeln!(out, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_the_format_has_it() {
        let mut page = Page::default();
        let mut calls = page.family("calls_total", Kind::Counter, "Calls\nof \\ all");
        calls.sample(&[("call", "put"), ("how", "fast")], 3);
        calls.sample(&[("call", "read"), ("how", "")], u64::MAX);
        page.one("here", Kind::Gauge, "Who is here", 0);
        assert_eq!(
            page.into_text(),
            "# HELP calls_total Calls\\nof \\\\ all\n# TYPE calls_total counter\n\
             calls_total{call=\"put\",how=\"fast\"} 3\n\
             calls_total{call=\"read\",how=\"\"} 18446744073709551615\n\
             # HELP here Who is here\n# TYPE here gauge\nhere 0\n"
        );
    }

    #[test]
    fn a_label_cannot_end_its_quotes_or_its_line() {
        let mut page = Page::default();
        let text = "a\\b\"} 7\nother 9";
        page.family("x", Kind::Gauge, "").sample(&[("l", text)], 1);
        let text = page.into_text();
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.ends_with("x{l=\"a\\\\b\\\"} 7\\nother 9\"} 1\n"),
            "{text}"
        );
    }
}
