//! Numbers by name, and their means between two lines of `metrics.jsonl`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Numbers by TRL's names, in the order in which they are shown.
pub type Metrics = Map<String, Value>;

/// Running means, kept in checkpoints so that a resumed run writes the lines of one that was not stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Means(Vec<Mean>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mean {
    name: String,
    sum: f64,
    count: u64,
}

impl Means {
    /// Adds one value of each metric; what is no number is left out.
    pub fn add(&mut self, metrics: &Metrics) {
        for (name, value) in metrics {
            let Some(value) = value.as_f64() else { continue };
            match self.0.iter_mut().find(|mean| mean.name == *name) {
                Some(mean) => {
                    mean.sum += value;
                    mean.count += 1;
                }
                None => self.0.push(Mean { name: name.clone(), sum: value, count: 1 }),
            }
        }
    }

    /// Whether nothing was added since the last [`Means::take`].
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The means, which begin anew.
    pub fn take(&mut self) -> Metrics {
        let means = std::mem::take(&mut self.0);
        means.into_iter().map(|mean| (mean.name, Value::from(mean.sum / mean.count as f64))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn means_begin_anew_and_survive_json_with_every_bit() {
        let mut means = Means::default();
        for loss in [0.1, 0.2, 0.4] {
            means.add(&Metrics::from_iter([
                ("loss".to_owned(), json!(loss)),
                ("name".to_owned(), json!("x")),
            ]));
        }
        means.add(&Metrics::from_iter([("rare".to_owned(), json!(3))]));
        let text = serde_json::to_string(&means).unwrap();
        let mut again: Means = serde_json::from_str(&text).unwrap();
        assert_eq!(again, means);
        let line = again.take();
        assert_eq!(line["loss"].as_f64().unwrap().to_bits(), ((0.1 + 0.2 + 0.4) / 3.0_f64).to_bits());
        assert_eq!((&line["rare"], line.len()), (&json!(3.0), 2));
        assert!(again.is_empty() && again.take().is_empty());
    }
}
