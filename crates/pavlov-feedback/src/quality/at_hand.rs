//! Figures for whoever asks over HTTP: nobody waits for a computation of seconds.

use std::sync::{Arc, PoisonError};

use super::{Cache, Quality};
use crate::error::{Error, Result};
use crate::store::{ProjectId, Store};

/// Answers up to which figures take less than a tenth of a second: these are computed at once.
const SMALL: u64 = 1_000;

/// What is known without waiting.
#[derive(Clone, Debug)]
pub struct AtHand {
    /// The figures; none where they are computed for the first time.
    pub quality: Option<Arc<Quality>>,
    /// The last record of the log: newer than the figures' where newer ones are being computed.
    pub last: u64,
}

impl Cache {
    /// The figures of a small project as of now. Of a large one those that are known, while newer ones are computed, one
    /// computation of a project at a time.
    pub async fn at_hand(&self, store: &Store, project: ProjectId) -> Result<AtHand> {
        let read = store.read(move |r| Ok((r.progress(project)?.answered, r.last_seq(project)?)));
        let (answered, last) = read.await?;
        let (cache, asked) = (self.clone(), store.clone());
        if answered <= SMALL {
            let computed = tokio::task::spawn_blocking(move || cache.get(&asked, project)).await;
            let quality = Some(computed.map_err(|error| Error::Bug(error.to_string()))??);
            return Ok(AtHand { quality, last });
        }
        if self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(project) {
            let turn = Turn { cache: self.clone(), project };
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                // Whoever asks next tries again, and so on until it can be said.
                drop(cache.get(&asked, project));
            });
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(AtHand { quality: known.get(&project).map(|(_, quality)| Arc::clone(quality)), last })
    }
}

/// A computation under way; over when it is dropped, also by a panic.
struct Turn {
    cache: Cache,
    project: ProjectId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.cache.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.project);
    }
}
