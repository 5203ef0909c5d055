//! Sign-in through a provider.

mod attacks;
mod site;
mod way_in;
