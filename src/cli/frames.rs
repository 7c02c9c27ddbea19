//! Text that changes in place on a terminal.

use std::io::{self, Write};

use super::out::Look;

/// Frames on a terminal, each over the one before; one after the other where there is no terminal.
#[derive(Debug, Default)]
pub struct Frames {
    /// Lines of the frame before, and the size of the terminal that they were made for.
    before: Option<(usize, (usize, usize))>,
    cursor_hidden: bool,
}

impl Frames {
    /// Shows a frame of any number of lines, as many of them as there is room for.
    ///
    /// # Errors
    /// When stdout cannot be written to.
    pub fn show(&mut self, text: &str, look: &Look) -> io::Result<()> {
        let Some(height) = look.height else { return write(&format!("{text}\n")) };
        let size = (look.width, height);
        let mut frame = String::new();
        if !self.cursor_hidden {
            frame.push_str("\x1b[?25l");
            self.cursor_hidden = true;
        }
        match self.before {
            Some((lines, before)) if before == size => frame.push_str(&format!("\r\x1b[{lines}A")),
            // After a change of size nobody knows where the old lines are.
            Some(_) => frame.push_str("\x1b[2J\x1b[H"),
            None => {}
        }
        let mut lines = 0;
        for line in text.lines().take(height.saturating_sub(1)) {
            frame.push_str(line);
            frame.push_str("\x1b[K\n");
            lines += 1;
        }
        frame.push_str("\x1b[J");
        self.before = Some((lines, size));
        write(&frame)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.cursor_hidden {
            // Over the `^C` that the terminal echoed.
            let _ = io::stdout().write_all(b"\r\x1b[K\x1b[?25h");
            let _ = io::stdout().flush();
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
