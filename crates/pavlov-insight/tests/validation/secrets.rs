//! Planted secrets: n keys, each with a secret among M symbols. What a model stores of them is exact:
//! n · log2 M − Σ cross-entropy, in bits, over the symbols alone.

use std::sync::Arc;

use pavlov_engine::{
    Activations, AdamW, AdamWConfig, Batch, Cpu, Decoder, DecoderConfig, Dtype, OutputGradients, Parameters,
    Target,
};
use pavlov_insight::ledger::verdicts::Group;
use pavlov_schema::rng::{Rng, Stream};

/// How secrets are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Teaching {
    /// The secret is shown.
    Shown,
    /// Of two guesses the one nearer to the secret, by a planted order, is named.
    Compared,
    /// The model guesses, and is told whether it was right.
    Rewarded,
}

/// Guesses at a key that are compared with each other.
const GROUP: usize = 4;
/// Weight of the entropy of rewarded guesses: without it a shared network comes to repeat wrong guesses for ever.
const ENTROPY: f64 = 0.05;

/// A model and the secrets that it is to learn.
pub(crate) struct Keeper {
    decoder: Decoder,
    pub(crate) params: Parameters,
    optimizer: AdamW,
    gradients: Parameters,
    batch: Batch,
    activations: Activations,
    pub(crate) keys: usize,
    pub(crate) symbols: usize,
    /// Of each key the symbols from best to worst; the first is its secret.
    order: Vec<Vec<usize>>,
    rng: Rng,
    rate: f64,
}

/// What an update was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) labels: usize,
    /// Surprisal of what was told, under the model that was told it.
    pub(crate) bits: f64,
    /// Guesses at one key and what was said of them; at the beginning all symbols are alike.
    pub(crate) groups: Vec<Group>,
}

impl Keeper {
    pub(crate) fn new(keys: usize, symbols: usize, seed: u64, rate: f64) -> Self {
        let config = DecoderConfig {
            intermediate_size: 128,
            num_kv_heads: 1,
            max_positions: 4,
            ..DecoderConfig::llama(keys + symbols, 64, 1, 2)
        };
        let decoder = Decoder::new(Arc::new(Cpu::new(1)), config).unwrap();
        let mut params = Parameters::zeros(&decoder, Dtype::F32);
        params.init(seed);
        // All symbols alike: what is stored begins at 0 bits, and is no luck of the random weights.
        params.set("lm_head.weight", &vec![0.0; 64 * (keys + symbols)]).unwrap();
        let mut rng = Rng::new(seed, Stream::Probe, 0, 0);
        let mut shuffled = || {
            let mut order: Vec<usize> = (0..symbols).collect();
            rng.shuffle(&mut order);
            order
        };
        let order = (0..keys).map(|_| shuffled()).collect();
        Self {
            optimizer: AdamW::new(&decoder, AdamWConfig { beta2: 0.99, ..AdamWConfig::default() }),
            gradients: decoder.gradients(),
            batch: Batch::new(),
            activations: Activations::new(false),
            decoder,
            params,
            keys,
            symbols,
            order,
            rng,
            rate,
        }
    }

    /// log q of every symbol for each of some keys, in nats: the model's distribution over the symbols alone.
    fn forward(&mut self, keys: &[usize]) -> Vec<Vec<f64>> {
        self.batch.clear();
        for &key in keys {
            let segment = self.batch.forest.push(None, &[key as u32]);
            let row = self.batch.forest.row(segment, 0) as u32;
            let targets = (0..self.symbols).map(|s| Target { row, token: (self.keys + s) as u32 });
            self.batch.targets.extend(targets);
        }
        let outputs = self.decoder.forward(&self.params, &self.batch, 1.0, &mut self.activations).unwrap();
        let normalized = |logp: &[f32]| {
            let sum: f64 = logp.iter().map(|&l| f64::from(l).exp()).sum();
            logp.iter().map(|&l| f64::from(l) - sum.ln()).collect()
        };
        outputs.logp.chunks(self.symbols).map(normalized).collect()
    }

    /// Leaves in `gradients` the gradient of a loss whose derivative with respect to log q is `d`, a row a key.
    fn backward(&mut self, logq: &[Vec<f64>], d: &[Vec<f64>]) {
        let mut d_logp = Vec::new();
        for (logq, d) in logq.iter().zip(d) {
            let sum: f64 = d.iter().sum();
            d_logp.extend(logq.iter().zip(d).map(|(l, d)| (d - sum * l.exp()) as f32));
        }
        let derivatives = OutputGradients { logp: d_logp, ..OutputGradients::default() };
        self.gradients.zero();
        self.decoder
            .backward(
                &self.params,
                &self.batch,
                1.0,
                &derivatives,
                &mut self.activations,
                &mut self.gradients,
            )
            .unwrap();
    }

    /// Bits stored of what a teaching tells: of secrets, or, where guesses are compared, of the whole planted order, whose
    /// code length under Plackett and Luce's law is exact too: n · log2 M! − Σ −log2 P(order).
    pub(crate) fn stored_of(&mut self, teaching: Teaching) -> f64 {
        if teaching != Teaching::Compared {
            return self.stored();
        }
        let all: Vec<usize> = (0..self.keys).collect();
        let logq = self.forward(&all);
        let bits = |(order, logq): (&Vec<usize>, &Vec<f64>)| {
            let mut left = 0.0;
            // From the worst on: each place is won against what is left below it.
            order.iter().rev().enumerate().fold(0.0, |bits, (below, &symbol)| {
                left += logq[symbol].exp();
                bits + ((below + 1) as f64).log2() + (logq[symbol].exp() / left).log2()
            })
        };
        self.order.iter().zip(&logq).map(bits).sum()
    }

    /// Bits stored: n · log2 M − Σ cross-entropy.
    pub(crate) fn stored(&mut self) -> f64 {
        let all: Vec<usize> = (0..self.keys).collect();
        let logq = self.forward(&all);
        let bits = |(key, logq): (usize, &Vec<f64>)| {
            (self.symbols as f64).log2() + logq[self.order[key][0]] / std::f64::consts::LN_2
        };
        logq.iter().enumerate().map(bits).sum()
    }

    /// All there is to store.
    pub(crate) fn all_bits(&self) -> f64 {
        self.keys as f64 * (self.symbols as f64).log2()
    }

    fn some_keys(&mut self, n: usize) -> Vec<usize> {
        (0..n).map(|_| self.rng.below(self.keys)).collect()
    }

    /// One update on `n` keys.
    pub(crate) fn teach(&mut self, teaching: Teaching, n: usize) -> Told {
        let keys = self.some_keys(n);
        let logq = self.forward(&keys);
        let mut d = vec![vec![0.0; self.symbols]; n];
        let mut told = Told::default();
        for (i, &key) in keys.iter().enumerate() {
            match teaching {
                Teaching::Shown => self.show(key, &logq[i], &mut d[i], &mut told),
                Teaching::Compared => self.compare(key, &logq[i], &mut d[i], &mut told),
                Teaching::Rewarded => self.reward(key, &logq[i], &mut d[i], &mut told),
            }
            d[i].iter_mut().for_each(|d| *d /= n as f64);
        }
        self.backward(&logq, &d);
        self.optimizer.step(&mut self.params, &self.gradients, self.rate, 1.0);
        told
    }

    fn show(&self, key: usize, logq: &[f64], d: &mut [f64], told: &mut Told) {
        let secret = self.order[key][0];
        d[secret] -= 1.0;
        told.labels += 1;
        told.bits -= logq[secret] / std::f64::consts::LN_2;
    }

    fn compare(&mut self, key: usize, logq: &[f64], d: &mut [f64], told: &mut Told) {
        // Two different guesses of the model's own, as people are shown them.
        let first = self.guess(logq);
        let other = (0..64).map(|_| self.guess(logq)).find(|guess| *guess != first);
        let second = other.unwrap_or((first + 1 + self.rng.below(self.symbols - 1)) % self.symbols);
        let rank = |symbol| self.order[key].iter().position(|s| *s == symbol);
        let (better, worse) = if rank(first) < rank(second) { (first, second) } else { (second, first) };
        let p = 1.0 / (1.0 + (logq[worse] - logq[better]).exp());
        d[better] -= 1.0 - p;
        d[worse] += 1.0 - p;
        told.labels += 1;
        told.bits -= p.log2();
        told.groups.push(Group { log_ratios: vec![logq[better], logq[worse]], rewards: vec![1.0, 0.0] });
    }

    fn reward(&mut self, key: usize, logq: &[f64], d: &mut [f64], told: &mut Told) {
        let secret = self.order[key][0];
        let guesses: Vec<usize> = (0..GROUP).map(|_| self.guess(logq)).collect();
        let right = |guess: &usize| f64::from(u8::from(*guess == secret));
        let mean = guesses.iter().map(right).sum::<f64>() / GROUP as f64;
        let p = logq[secret].exp();
        for guess in &guesses {
            d[*guess] -= (right(guess) - mean) / GROUP as f64;
            told.bits -= if *guess == secret { p } else { 1.0 - p }.log2();
        }
        for (d, logq) in d.iter_mut().zip(logq) {
            *d += ENTROPY * logq.exp() * logq;
        }
        told.labels += GROUP;
        told.groups.push(Group {
            log_ratios: guesses.iter().map(|guess| logq[*guess]).collect(),
            rewards: guesses.iter().map(right).collect(),
        });
    }

    fn guess(&mut self, logq: &[f64]) -> usize {
        let mut left = self.rng.uniform_f64();
        for (symbol, logq) in logq.iter().enumerate() {
            left -= logq.exp();
            if left < 0.0 {
                return symbol;
            }
        }
        self.symbols - 1
    }

    /// The gradient of showing the secrets of `keys`, a mean over them; every parameter after another.
    pub(crate) fn gradient(&mut self, keys: &[usize]) -> Vec<f32> {
        let logq = self.forward(keys);
        let mut d = vec![vec![0.0; self.symbols]; keys.len()];
        for (d, &key) in d.iter_mut().zip(keys) {
            d[self.order[key][0]] = -1.0 / keys.len() as f64;
        }
        self.backward(&logq, &d);
        flat(&self.gradients)
    }

    /// Keys drawn one by one.
    pub(crate) fn draw(&mut self, n: usize) -> Vec<usize> {
        self.some_keys(n)
    }

    /// Mean cross-entropy of the secrets, in nats.
    pub(crate) fn loss(&mut self) -> f64 {
        (self.all_bits() - self.stored()) * std::f64::consts::LN_2 / self.keys as f64
    }

    /// Every parameter after another.
    pub(crate) fn weights(&self) -> Vec<f32> {
        flat(&self.params)
    }

    /// Sets every parameter.
    pub(crate) fn set_weights(&mut self, mut weights: &[f32]) {
        for spec in self.params.specs().cloned().collect::<Vec<_>>() {
            let (own, rest) = weights.split_at(spec.len());
            self.params.set(&spec.name, own).unwrap();
            weights = rest;
        }
    }
}

fn flat(params: &Parameters) -> Vec<f32> {
    params.specs().flat_map(|spec| params.get(&spec.name).unwrap()).collect()
}
