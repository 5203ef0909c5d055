//! What people read, on stderr: lines, and on a terminal a progress bar below them.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pavlov_engine::{Cpu, Dtype};

/// The bar on the screen, if there is one: lines must be written above it, whoever writes them.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes a line. Nobody can be told that stderr is closed.
pub(crate) fn line(text: &str) {
    let write = || {
        let _ = writeln!(io::stderr(), "{text}");
    };
    // A panic may come from within the bar, which then must not be waited for.
    match BAR.try_lock().as_deref() {
        Ok(Some(bar)) => bar.suspend(write),
        _ => write(),
    }
}

/// Says what this program is and what it computes with.
pub(crate) fn machine(cpu: &Cpu, dtype: Dtype) {
    let dtype = match dtype {
        Dtype::F32 => "f32",
        Dtype::Bf16 => "bf16",
    };
    line(&format!("pavlov {} · {} · {dtype}", env!("CARGO_PKG_VERSION"), cpu.describe()));
}

/// Longest time without a word where there is no bar.
const SILENT: Duration = Duration::from_secs(30);

/// How far a run is: a bar on a terminal, a line now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    /// The step the clock started at.
    first: u64,
    start: Instant,
    /// When the last line was written.
    spoke: Mutex<Instant>,
}

impl Progress {
    /// Begins at step `first` of `total`.
    pub(crate) fn start(first: u64, total: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            // Two lines, so that a window of 40 columns shows the time left and what is measured.
            let style = ProgressStyle::with_template("{bar:12} {pos}/{len}{prefix}\n{wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(first);
            bar.enable_steady_tick(Duration::from_millis(250));
            *lock() = Some(bar.clone());
            bar
        });
        let start = Instant::now();
        Self { bar, total, first, start, spoke: Mutex::new(start) }
    }

    /// Shows a finished step on a terminal's bar, or after half a minute without a line writes one; `message` has its numbers.
    pub(crate) fn step(&self, step: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_prefix(self.time_left(step));
            bar.set_message(message.to_owned());
        } else if self.spoke.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > SILENT {
            self.logged(step, message);
        }
    }

    /// Writes a line for steps up to this one where there is no bar.
    pub(crate) fn logged(&self, step: u64, message: &str) {
        if self.bar.is_none() {
            *self.spoke.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            line(&format!("step {step}/{} · {message}{}", self.total, self.time_left(step)));
        }
    }

    /// ` · 3 min 20 s left`, or nothing where it is not known.
    fn time_left(&self, step: u64) -> String {
        let (Some(done), Some(left)) = (step.checked_sub(self.first), self.total.checked_sub(step)) else {
            return String::new();
        };
        if done == 0 {
            return String::new();
        }
        let left = self.start.elapsed().mul_f64(left as f64 / done as f64);
        format!(" · {} left", duration(left))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            *lock() = None;
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
    BAR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A duration as people say it: `42 s`, `3 min 20 s`, `2 h 05 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_and_carried() {
        let shown = |seconds: f64| duration(Duration::from_secs_f64(seconds));
        assert_eq!(shown(59.4), "59 s");
        assert_eq!(shown(59.6), "1 min 00 s");
        assert_eq!(shown(7500.0), "2 h 05 min");
    }

    #[test]
    fn time_left_counts_from_where_a_run_was_resumed() {
        let start = Instant::now().checked_sub(Duration::from_secs(40)).unwrap();
        let progress = Progress { bar: None, total: 110, first: 100, start, spoke: Mutex::new(start) };
        assert_eq!(progress.time_left(100), "");
        assert_eq!(progress.time_left(108), " · 10 s left");
    }
}
