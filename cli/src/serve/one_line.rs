//! [`OneLine`]: a line of the log is one event, whatever somebody has written into what it tells.

use std::io::{self, Write};

/// Writes events, each of which comes whole, as lines: what would end the line within it, or steer a terminal, is shown by its escape.
pub(super) struct OneLine<W> {
    pub(super) to: W,
    /// Whether the log has colours of its own. What it tells has none: `tracing` shows their escapes.
    pub(super) has_colours: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let told = text.strip_suffix('\n').unwrap_or(&text);
        let is_plain = |c: char| !c.is_control() || c == '\t' || (self.has_colours && c == '\u{1b}');
        if told.chars().all(is_plain) {
            self.to.write_all(event)?;
        } else {
            let mut line = String::with_capacity(event.len() + 16);
            for c in told.chars() {
                if is_plain(c) {
                    line.push(c);
                } else {
                    line.extend(c.escape_default());
                }
            }
            line.push('\n');
            self.to.write_all(line.as_bytes())?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Kept;
    use super::*;
    use tracing::subscriber::with_default;

    #[test]
    fn an_event_is_one_line_whatever_is_in_what_it_tells() {
        let kept = Kept::default();
        let own = kept.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || OneLine { to: own.clone(), has_colours: false }).with_ansi(false).finish();
        let key = "shelf\n2026-11-30T00:00:00Z  INFO sagamq: the key admin is revoked\r\u{1b}[2J\u{9b}1m";
        with_default(subscriber, || {
            tracing::warn!(%key, "a lock is taken away");
            tracing::info!("{key}");
            tracing::info!("nothing is odd");
        });
        let text = kept.text();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{9b}']), "{text:?}");
        assert!(text.ends_with("nothing is odd\n"), "{text}");
    }
}
