//! `pavlov bench matmul`: how fast matrix products are, at their best and in the shapes of a model.

use anyhow::Result;
use pavlov_engine::{DecoderConfig, Dtype, ParameterKind};
use pavlov_schema::Map;
use serde_json::{Value, json};

use super::limits::{Pass, Product, large_products, read_bandwidth};
use super::report::rounded;
use super::{BenchArgs, dtype_name, memory};
use crate::{screen, stdout};

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    // The shapes of the model, if one is named; its weights say nothing here.
    let config = match &args.model {
        Some(folder) => Some(pavlov_lm::ModelFiles::load(folder)?.config.decoder),
        None => None,
    };
    let cpu = args.cpu()?;
    let dtypes = match args.compute.dtype {
        None => vec![Dtype::F32, Dtype::Bf16],
        Some(dtype) => vec![dtype.dtype()],
    };
    screen::line(&cpu.describe());
    let mut line = Map::from_iter([("pavlov".to_owned(), json!("matmul"))]);
    let mut products = Vec::new();
    for dtype in dtypes {
        let mut peak: f64 = 0.0;
        screen::line(&format!("{:<6} {:<16} {:>18} {:>10}", "", "product", "rows × out × in", "GFLOP/s"));
        for one in large_products(&cpu, dtype) {
            peak = peak.max(one.flops);
            products.push(show(dtype, one.pass, one.shape, one.flops));
        }
        for shape in config.iter().flat_map(|config| shapes(config, args)) {
            let mut product = Product::new(&cpu, shape, dtype);
            for pass in Pass::ALL {
                products.push(show(dtype, pass, shape, product.flops() / product.seconds(pass)));
            }
        }
        line.insert(format!("peak_gflops_{}", dtype_name(dtype)), rounded(peak / 1e9, 1));
    }
    let bandwidth = read_bandwidth(&cpu) / 1e9;
    screen::line(&format!("memory is read at {bandwidth:.1} GB/s"));
    line.insert("read_gb_per_s".to_owned(), rounded(bandwidth, 1));
    line.insert("threads".to_owned(), json!(cpu.threads()));
    line.insert("peak_rss_mib".to_owned(), json!(memory::peak_rss().map(|bytes| bytes >> 20)));
    line.insert("products".to_owned(), Value::Array(products));
    stdout::json(&line)
}

/// The products of a model in training, at batch × length rows, and in decoding, at batch rows.
fn shapes(config: &DecoderConfig, args: &BenchArgs) -> Vec<[usize; 3]> {
    let mut weights: Vec<[usize; 2]> = config
        .parameters()
        .into_iter()
        .filter(|spec| spec.kind == ParameterKind::Matrix)
        .map(|spec| [spec.rows, spec.cols])
        .collect();
    weights.sort_unstable();
    weights.dedup();
    let rows = [args.batch() * args.length(), args.batch()];
    rows.into_iter().flat_map(|m| weights.iter().map(move |[n, k]| [m, *n, *k])).collect()
}

fn show(dtype: Dtype, pass: Pass, [m, n, k]: [usize; 3], flops: f64) -> Value {
    let shape = format!("{m} × {n} × {k}");
    screen::line(&format!("{:<6} {:<16} {shape:>18} {:>10.1}", dtype_name(dtype), pass.name(), flops / 1e9));
    json!({"dtype": dtype_name(dtype), "product": pass.name(), "shape": [m, n, k], "gflops": rounded(flops / 1e9, 1)})
}
