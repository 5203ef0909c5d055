//! Insight against known truth. The long ones are ignored: `docs/validation.md` has the commands and the figures.

mod planted;
mod scan;
