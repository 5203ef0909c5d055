//! What training and the feedback application say to each other: tasks go out, sealed records come back.
//!
//! A [`NewTask`] asks people about answers; an [`Answer`] is what one of them said; a [`SealedRecord`] is an answer that can no
//! longer be undone, with everything training needs to learn from it. [`SealedRecord::judgment`] makes the file format's
//! [`Judgment`](crate::judgment::Judgment) of it. A point of the curve of what a reward model makes of them comes back as
//! [`Learned`].

mod answer;
mod kind;
mod learned;
mod record;
mod task;

pub use answer::{Answer, Said};
pub use kind::TaskKind;
pub use learned::Learned;
pub use record::{RecordKind, SealedRecord, standing};
pub use task::{NewResponse, NewTask};
