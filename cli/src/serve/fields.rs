//! [`PlainFields`]: the fields of spans and events in a log without colours, as the library's own format has them. Every request has a span, whose
//! fields are written whether anything is told of it or not; texts in which nothing is to be escaped go the short way.

use std::fmt;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// What the fields of most spans take, in bytes.
const FIELDS_BYTES: usize = 192;

/// Writes fields as [`DefaultFields`](tracing_subscriber::fmt::format::DefaultFields) does where there are no colours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlainFields;

impl<'w> FormatFields<'w> for PlainFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, pending: String::new(), is_empty: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.write_pending();
        visitor.result
    }
}

struct Visitor<'w> {
    writer: Writer<'w>,
    /// What is not written yet.
    pending: String,
    is_empty: bool,
    result: fmt::Result,
}

impl Visitor<'_> {
    fn write_pending(&mut self) {
        if self.result.is_ok() && !self.pending.is_empty() {
            self.result = self.writer.write_str(&self.pending);
            self.pending.clear();
        }
    }

    /// Leaves a field to the library.
    fn by_default(&mut self, field: &Field, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        self.write_pending();
        if self.result.is_ok() {
            let mut visitor = DefaultVisitor::new(self.writer.by_ref(), self.is_empty);
            record(&mut visitor);
            self.result = visitor.finish();
            self.is_empty &= field.name().starts_with("log.");
        }
    }
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let name = field.name();
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if name == "message" || name.starts_with("log.") || name.starts_with("r#") || !value.bytes().all(is_plain) {
            return self.by_default(field, |visitor| visitor.record_str(field, value));
        }
        if self.pending.capacity() == 0 {
            self.pending.reserve(FIELDS_BYTES);
        }
        if !core::mem::take(&mut self.is_empty) {
            self.pending.push(' ');
        }
        for piece in [name, "=\"", value, "\""] {
            self.pending.push_str(piece);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.by_default(field, |visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.by_default(field, |visitor| visitor.record_debug(field, value));
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Kept;
    use super::*;
    use std::io;
    use tracing::subscriber::with_default;
    use tracing_subscriber::fmt::format::DefaultFields;

    fn told<F: for<'w> FormatFields<'w> + Send + Sync + 'static>(fields: F) -> String {
        let own = Kept::default();
        let to = own.clone();
        let builder = tracing_subscriber::fmt().fmt_fields(fields).with_ansi(false).without_time().with_writer(move || to.clone());
        with_default(builder.finish(), || {
            for text in ["", "plain text", "a \"quoted\" one", "back\\slash", "it's", "é", "tab\there", "line\nbreak", "\u{1b}[31m"] {
                let error = io::Error::other(text.to_owned());
                let span = tracing::info_span!("request", text, number = 7, later = tracing::field::Empty, other = %text, r#type = text);
                let _entered = span.enter();
                tracing::info!(text, error = &error as &dyn std::error::Error, "told: {text}");
                span.record("later", text);
                tracing::warn!(first = ?text, text, "again");
            }
            tracing::info!("only a message");
            tracing::info!(text = "only a field");
        });
        own.text()
    }

    #[test]
    fn fields_are_written_as_the_library_writes_them() {
        let told_plainly = told(PlainFields);
        assert_eq!(told_plainly, told(DefaultFields::new()));
        assert!(told_plainly.contains("request{text=\"plain text\" number=7 other=plain text"), "{told_plainly}");
    }
}
