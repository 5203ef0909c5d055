//! Which lessons say it in the same words: BM25 and exact spans. Words are no cause, and often the best lead; they are the
//! baselines that the other methods have to beat.

use std::collections::{BTreeMap, BTreeSet};

/// BM25's saturation and length constants (Robertson and Zaragoza 2009).
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// The words of some queries, how many lessons have each, and where each is in the queries.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// A number for each word of the queries.
    numbers: BTreeMap<String, usize>,
    /// Of each number, its places in the queries written one after another with a gap after each.
    places: Vec<Vec<usize>>,
    /// Length of that row.
    length: usize,
    /// In how many lessons each word is.
    found: Vec<usize>,
    lessons: usize,
    words: usize,
}

/// A text as lower-case words.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

impl Corpus {
    /// Nothing counted, for the words of some queries.
    pub fn new<'a>(queries: impl IntoIterator<Item = &'a str>) -> Self {
        let mut corpus = Self::default();
        for query in queries {
            for word in words(query) {
                let next = corpus.places.len();
                let number = *corpus.numbers.entry(word).or_insert(next);
                if number == next {
                    corpus.places.push(Vec::new());
                }
                // Position 0 stays free: every place has one before it.
                corpus.length += 1;
                corpus.places[number].push(corpus.length);
            }
            corpus.length += 1;
        }
        corpus.found = vec![0; corpus.places.len()];
        corpus
    }

    /// The number of each word of a text, `None` of those that no query has.
    pub fn read(&self, text: &str) -> Vec<Option<usize>> {
        words(text).iter().map(|word| self.numbers.get(word).copied()).collect()
    }

    /// Counts a lesson.
    pub fn add(&mut self, text: &[Option<usize>]) {
        self.lessons += 1;
        self.words += text.len();
        for number in text.iter().flatten().collect::<BTreeSet<_>>() {
            self.found[*number] += 1;
        }
    }

    /// BM25 of a lesson for all words of the queries, each once: what many queries share, the lessons' counts weigh.
    pub fn bm25(&self, text: &[Option<usize>]) -> f64 {
        let mean = self.words as f64 / self.lessons.max(1) as f64;
        let length = 1.0 - B + B * text.len() as f64 / mean;
        let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
        for number in text.iter().flatten() {
            *counts.entry(*number).or_default() += 1.0;
        }
        let score =
            |(number, count): (usize, f64)| self.rarity(number) * count * (K1 + 1.0) / (count + K1 * length);
        counts.into_iter().map(score).sum()
    }

    fn rarity(&self, number: usize) -> f64 {
        let (n, found) = (self.lessons as f64, self.found[number] as f64);
        (1.0 + (n - found + 0.5) / (found + 0.5)).ln()
    }

    /// The longest run of words that a lesson shares with any query, weighted by how rare its words are (OLMoTrace,
    /// arXiv:2504.07096, ranks spans by the probability of their words).
    pub fn span(&self, text: &[Option<usize>]) -> f64 {
        // Of each place in the queries, the run that ends there and the word of the lesson that it ends with.
        let mut runs = vec![(0.0_f64, 0_usize); self.length + 1];
        let mut best = 0.0_f64;
        for (i, number) in text.iter().enumerate().filter_map(|(i, number)| Some((i + 1, (*number)?))) {
            let rarity = self.rarity(number);
            // Backwards: the place before still holds the run that the word before ended.
            for &place in self.places[number].iter().rev() {
                let (run, at) = runs[place - 1];
                let before = if at + 1 == i { run } else { 0.0 };
                runs[place] = (before + rarity, i);
                best = best.max(before + rarity);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(queries: &[&str], texts: &[&str]) -> (Corpus, Vec<Vec<Option<usize>>>) {
        let mut corpus = Corpus::new(queries.iter().copied());
        let texts: Vec<Vec<Option<usize>>> = texts.iter().map(|text| corpus.read(text)).collect();
        for text in &texts {
            corpus.add(text);
        }
        (corpus, texts)
    }

    #[test]
    fn bm25_by_hand() {
        let (corpus, texts) = corpus(&["rare"], &["a rare thing", "a thing", "a thing a"]);
        // One of three lessons; 3 words where the mean is 8/3.
        let idf = (1.0_f64 + 2.5 / 1.5).ln();
        let wanted = idf * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * 3.0 / (8.0 / 3.0)));
        assert!((corpus.bm25(&texts[0]) - wanted).abs() < 1e-12);
        assert_eq!(corpus.bm25(&texts[1]), 0.0);
    }

    #[test]
    fn the_longest_shared_run_counts_and_its_order_matters() {
        let (corpus, texts) = corpus(
            &["That is inconsistent.", "It is that."],
            &["That is INCONSISTENT", "inconsistent is that", "nothing here"],
        );
        let [run, scattered, none] = [0, 1, 2].map(|i| corpus.span(&texts[i]));
        assert!(run > scattered && scattered > none && none == 0.0, "{run} {scattered} {none}");
    }

    #[test]
    fn a_run_is_of_neighbours_in_one_query() {
        // The table of a longest common run, by its definition.
        let (queries, texts) = (["a b a b c", "c c a"], ["a b a b", "b c c", "c a b", "a a", "x a b c x"]);
        let (corpus, read) = corpus(&queries, &texts);
        for (text, read) in texts.iter().zip(&read) {
            let text = words(text);
            let runs = (0..text.len()).flat_map(|i| (i + 1..=text.len()).map(move |j| (i, j)));
            let shared = |(i, j): &(usize, usize)| {
                queries.iter().any(|query| words(query).windows(j - i).any(|run| *run == text[*i..*j]))
            };
            let weight = |(i, j): (usize, usize)| {
                read[i..j].iter().flatten().map(|number| corpus.rarity(*number)).sum::<f64>()
            };
            let longest = runs.filter(shared).map(weight).fold(0.0, f64::max);
            assert!((corpus.span(read) - longest).abs() < 1e-12, "{text:?}");
        }
    }
}
