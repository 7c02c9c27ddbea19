//! Text for terminals: colours, widths, ages. Everything that comes from elsewhere passes [`clean`] before it is shown.

use unicode_width::UnicodeWidthChar;

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Bold,
    Dim,
    Good,
    Fair,
    Bad,
    Moving,
}

/// Puts colours around texts, or does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    colour: bool,
}

impl Paint {
    pub(super) fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// `text` in that tone.
    pub(super) fn of(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.colour || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Fair => "33",
            Tone::Bad => "1;31",
            Tone::Moving => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A name or sentence from elsewhere, without what could steer the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_bidi_control(c) { '\u{fffd}' } else { c }).collect()
}

/// Characters that change the direction of what follows, so that a line could lie about itself.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Cut to `columns`, with an ellipsis when something was cut.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// Cut or filled up to exactly `columns`, at the left.
pub(super) fn left(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let fill = columns.saturating_sub(width(&text));
    text + &" ".repeat(fill)
}

/// Cut or filled up to exactly `columns`, at the right.
pub(super) fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    " ".repeat(columns.saturating_sub(width(&text))) + &text
}

/// Broken at spaces into lines of at most `columns`.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word = cut(word, columns);
        if let Some(line) = lines.last_mut()
            && (line.is_empty() || width(line) + 1 + width(&word) <= columns)
        {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines
}

/// An age or a time left: two units at most.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// The time of day.
pub(super) fn clock(at: jiff::Timestamp, zone: &jiff::tz::TimeZone) -> String {
    at.to_zoned_datetime(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// A count in at most five characters.
pub(super) fn count(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..10_000_000 => format!("{}k", number / 1000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\r\nc\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d");
    }

    #[test]
    fn columns_are_what_a_terminal_counts() {
        assert_eq!(left("虚拟机-1", 6), "虚拟… ");
        assert_eq!(width(&left("虚拟机-1", 6)), 6);
        assert_eq!(right("7", 3), "  7");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
    }

    #[test]
    fn ages_read_well() {
        for (ms, text) in [
            (0, "0.0s"),
            (1_250, "1.2s"),
            (42_000, "42s"),
            (200_000, "3m20s"),
            (18_720_000, "5h12m"),
            (273_600_000, "3d04h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn wrapping_loses_no_word_and_keeps_the_width() {
        let text = "the drain takes long (321 s): 3 sessions on worker 4711";
        let lines = wrap(text, 20);
        assert!(lines.iter().all(|line| width(line) <= 20), "{lines:?}");
        assert_eq!(lines.join(" "), text);
    }
}
