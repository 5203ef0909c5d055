//! Which lessons say it in the same words: BM25 and exact spans. Words are no cause, and often the best lead; they are the
//! baselines that the other methods have to beat.

use std::collections::{BTreeMap, BTreeSet};

/// BM25's saturation and length constants (Robertson and Zaragoza 2009).
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// Counts of words over all lessons.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    lessons: usize,
    words: usize,
    /// In how many lessons each of the query's words is.
    found: BTreeMap<String, usize>,
}

/// A text as lower-case words.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

impl Corpus {
    /// Nothing counted, for a query's words.
    pub fn new(query: &[String]) -> Self {
        Self { found: query.iter().map(|word| (word.clone(), 0)).collect(), ..Self::default() }
    }

    /// Counts a lesson.
    pub fn add(&mut self, text: &[String]) {
        self.lessons += 1;
        self.words += text.len();
        for word in text.iter().collect::<BTreeSet<_>>() {
            if let Some(found) = self.found.get_mut(word) {
                *found += 1;
            }
        }
    }

    /// BM25 of a lesson for the query's words, each as often as it is there.
    pub fn bm25(&self, query: &[String], text: &[String]) -> f64 {
        let mean = self.words as f64 / self.lessons.max(1) as f64;
        let length = 1.0 - B + B * text.len() as f64 / mean;
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for word in text {
            *counts.entry(word).or_default() += 1.0;
        }
        let score = |word: &String| {
            let count = counts.get(word.as_str()).copied().unwrap_or(0.0);
            self.rarity(word) * count * (K1 + 1.0) / (count + K1 * length)
        };
        query.iter().map(score).sum()
    }

    fn rarity(&self, word: &str) -> f64 {
        let (n, found) = (self.lessons as f64, self.found.get(word).copied().unwrap_or(0) as f64);
        (1.0 + (n - found + 0.5) / (found + 0.5)).ln()
    }

    /// The longest run of words that a lesson shares with the query, weighted by how rare its words are (OLMoTrace,
    /// arXiv:2504.07096, ranks spans by the probability of their words).
    pub fn span(&self, query: &[String], text: &[String]) -> f64 {
        // Longest common run by dynamic programming over two rows.
        let (mut best, mut before) = (0.0_f64, vec![0.0_f64; text.len() + 1]);
        for wanted in query {
            let mut current = vec![0.0; text.len() + 1];
            for (i, word) in text.iter().enumerate().filter(|(_, word)| *word == wanted) {
                current[i + 1] = before[i] + self.rarity(word);
                best = best.max(current[i + 1]);
            }
            before = current;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(query: &str, texts: &[&str]) -> (Corpus, Vec<String>, Vec<Vec<String>>) {
        let query = words(query);
        let texts: Vec<Vec<String>> = texts.iter().map(|text| words(text)).collect();
        let mut corpus = Corpus::new(&query);
        for text in &texts {
            corpus.add(text);
        }
        (corpus, query, texts)
    }

    #[test]
    fn bm25_by_hand() {
        let (corpus, query, texts) = corpus("rare", &["a rare thing", "a thing", "a thing a"]);
        // One of three lessons; 3 words where the mean is 8/3.
        let idf = (1.0_f64 + 2.5 / 1.5).ln();
        let wanted = idf * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * 3.0 / (8.0 / 3.0)));
        assert!((corpus.bm25(&query, &texts[0]) - wanted).abs() < 1e-12);
        assert_eq!(corpus.bm25(&query, &texts[1]), 0.0);
    }

    #[test]
    fn the_longest_shared_run_counts_and_its_order_matters() {
        let (corpus, query, texts) = corpus(
            "That is inconsistent.",
            &["That is INCONSISTENT", "inconsistent is that", "nothing here"],
        );
        let [run, scattered, none] = [0, 1, 2].map(|i| corpus.span(&query, &texts[i]));
        assert!(run > scattered && scattered > none && none == 0.0, "{run} {scattered} {none}");
    }
}
