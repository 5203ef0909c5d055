//! What it costs to watch a pass: observation points, and what an update keeps for the ledger.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pavlov_engine::{
    Activations, AdamW, AdamWConfig, Batch, Change, Cpu, Dtype, ExampleGradients, Intervention,
    KroneckerFactors, Observed, OutputGradients, Rows, StreamGradients,
};
use pavlov_lm::{EncodeOptions, LanguageModel};
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;
use pavlov_train::stage::pack::pack_rows;
use pavlov_worlds::{Config, Split, generate};

/// Rounds that are counted, after one to warm up.
const ROUNDS: usize = 40;

/// The median over rounds of the time of `watched` over that of `plain`, the two taking turns.
fn ratio(name: &str, mut plain: impl FnMut(), mut watched: impl FnMut()) {
    let timed = |run: &mut dyn FnMut()| {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64()
    };
    let mut rounds: Vec<[f64; 2]> =
        (0..=ROUNDS).map(|_| [timed(&mut plain), timed(&mut watched)]).skip(1).collect();
    rounds.sort_by(|a, b| (a[1] / a[0]).total_cmp(&(b[1] / b[0])));
    let [low, middle, high] = [ROUNDS / 4, ROUNDS / 2, 3 * ROUNDS / 4].map(|i| rounds[i][1] / rounds[i][0]);
    let times = rounds[ROUNDS / 2].map(|seconds| 1e3 * seconds);
    println!(
        "{name}: {:.2} ms plain, {:.2} ms watched, ratio {middle:.3} (quartiles {low:.3} to {high:.3})",
        times[0], times[1]
    );
}

/// An update of the demonstration (32 rows, f32), watched in each way there is. Run it alone on the machine.
#[test]
#[ignore = "a timing; figures in docs/performance.md"]
fn observing_costs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pavlov/assets/base");
    let backend = Arc::new(Cpu::new(0));
    let model = LanguageModel::load_on(&folder, &backend, Dtype::F32).unwrap();
    let (decoder, params) = (&model.decoder, &model.params);
    let (layers, width) = (decoder.config().num_layers, decoder.config().hidden_size);
    let rows: Vec<_> = (0..32)
        .map(|i| {
            let world = generate(3, i, &Config::demo(), Split::Train);
            let (prompt, completion) = (Text::Plain(world.prompt()), Text::Plain(world.answer));
            let row = Row::PromptCompletion { prompt, completion };
            model.encoder().encode_row(&row, &EncodeOptions::default(), "world").unwrap()
        })
        .collect();
    let mut batch = Batch::new();
    pack_rows(&mut batch, rows.iter());
    let tokens = batch.forest.len() as u32;
    let acts = || Activations::new(false);

    // Forward.
    let forward = |acts: &mut Activations| decoder.forward(params, &batch, 1.0, acts).unwrap();
    let steer: Vec<Intervention> = (0..=layers)
        .map(|layer| Intervention { layer, rows: Rows::All, change: Change::Add(vec![1e-3; width]) })
        .collect();
    let (mut a, mut b) = (acts(), acts());
    println!("{tokens} tokens, {layers} blocks of width {width}, {} threads", backend.threads());
    ratio("forward, the same again", || drop(forward(&mut a)), || drop(forward(&mut b)));
    ratio(
        "forward, the stream read at every layer and row",
        || drop(forward(&mut a)),
        || {
            forward(&mut b);
            let all: Vec<u32> = (0..tokens).collect();
            (0..=layers).for_each(|layer| drop(decoder.stream(&b, layer, &all).unwrap()));
        },
    );
    ratio(
        "forward, a vector added at every layer and row",
        || drop(forward(&mut a)),
        || drop(decoder.forward_with(params, &batch, 1.0, &steer, &mut b).unwrap()),
    );

    // Backward.
    let targets = forward(&mut a).logp.len();
    forward(&mut b);
    let loss = OutputGradients { logp: vec![-1.0 / targets as f32; targets], ..OutputGradients::default() };
    let names: Vec<String> = params
        .specs()
        .map(|spec| spec.name.clone())
        .filter(|name| name.contains(".layers.") && name.ends_with("_proj.weight"))
        .collect();
    let mut streams = StreamGradients::default();
    let mut examples = ExampleGradients::new(decoder, &names, [8, 8], 0).unwrap();
    let mut factors = KroneckerFactors::new(decoder, &names).unwrap();
    let (mut grads, mut others) = (decoder.gradients(), decoder.gradients());
    let mut plain = || {
        forward(&mut a);
        decoder.backward(params, &batch, 1.0, &loss, &mut a, &mut grads).unwrap();
    };
    let mut seen = |observed: Observed<'_>| {
        forward(&mut b);
        decoder.backward_with(params, &batch, 1.0, &loss, &[], &mut b, &mut others, observed).unwrap();
    };
    ratio("forward and backward, the same again", &mut plain, || seen(Observed::default()));
    ratio("…, derivatives of the stream kept", &mut plain, || {
        seen(Observed { streams: Some(&mut streams), ..Observed::default() });
    });
    ratio("…, gradients of examples projected to 8 by 8 a layer", &mut plain, || {
        seen(Observed { examples: Some(&mut examples), ..Observed::default() });
    });
    ratio("…, second moments on both sides of each layer", &mut plain, || {
        seen(Observed { factors: Some(&mut factors), ..Observed::default() });
    });

    // What an update in parts measures for the ledger's noise scale: two norms of the gradient, plain and in Adam's metric.
    let mut trained = LanguageModel::load_on(&folder, &backend, Dtype::F32).unwrap();
    let mut optimizer = AdamW::new(decoder, AdamWConfig::default());
    let (mut c, mut sum) = (acts(), decoder.gradients());
    let mut update = |norms: usize| {
        sum.zero();
        decoder.forward(&trained.params, &batch, 1.0, &mut c).unwrap();
        decoder.backward(&trained.params, &batch, 1.0, &loss, &mut c, &mut sum).unwrap();
        for _ in 0..norms {
            assert!(sum.global_norm() > 0.0 && optimizer.square_of(&sum).is_none_or(|square| square > 0.0));
        }
        optimizer.step(&mut trained.params, &sum, 0.0, 1.0);
    };
    update(0);
    let update = std::cell::RefCell::new(update);
    ratio("an update, its gradient's noise measured", || update.borrow_mut()(0), || update.borrow_mut()(2));
}
