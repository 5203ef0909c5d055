"""The TRL side of docs/parity.md: a small random checkpoint, the rows, and TRL's SFT and GRPO curves on them.

    python trl_curves.py checkpoint GSM8K_TRAIN DIR      a random Llama of 6.5 million parameters with its tokenizer
    python trl_curves.py rows GSM8K_TRAIN DIR            sft.jsonl, prompts.jsonl and held_out.jsonl
    python trl_curves.py sft MODEL SFT_JSONL OUT_JSON [--dtype bf16] [--save DIR]
    python trl_curves.py grpo MODEL PROMPTS_JSONL OUT_JSON --seed N [--replay PAVLOV_RUN]

`--replay` gives TRL the answers that a run of Pavlov drew, update by update, instead of its own: whatever differs then is
not chance.

The hyperparameters are those of sft.toml and grpo.toml beside this file, read from there: every key has TRL's name.
"""

import argparse
import json
import os
import platform
import tempfile
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).resolve().parent
# Keys of Pavlov's configurations that say where things are or how Pavlov computes.
NOT_TRL = ("dtype", "rewards", "log_completions_steps")


def gsm8k(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def checkpoint(a):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=4096, special_tokens=["<pad>", "<eos>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([row["question"] + " " + row["answer"] for row in gsm8k(a.data)], trainer)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(
        hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4,
        vocab_size=4096, tie_word_embeddings=False, max_position_embeddings=2048, rms_norm_eps=1e-5,
        bos_token_id=None, eos_token_id=1, pad_token_id=0)).save_pretrained(a.dir)
    PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>",
                            padding_side="left").save_pretrained(a.dir)


def rows(a):
    a.dir.mkdir(parents=True, exist_ok=True)
    pairs = [{"prompt": row["question"] + "\n", "completion": row["answer"]} for row in gsm8k(a.data)[:1400]]

    def write(name, lines):
        (a.dir / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    write("sft.jsonl", pairs[:1200])
    write("prompts.jsonl", [{"prompt": pair["prompt"]} for pair in pairs[1200:1380]])
    write("held_out.jsonl", pairs[1380:])


def load(a, settings):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(a.threads)
    settings = {key: value for key, value in settings.items() if key not in NOT_TRL}
    settings |= dict(output_dir=tempfile.mkdtemp(), report_to=[], use_cpu=True, bf16=a.dtype == "bf16", save_strategy="no",
                     disable_tqdm=True, gradient_checkpointing=False)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(a.model), settings


def settings_of(name):
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def write(a, lines, seconds, **more):
    packages = ("torch", "transformers", "trl", "accelerate", "datasets", "tokenizers")
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    a.out.write_text(json.dumps({"steps": lines, "seconds": seconds, **more, "versions": versions}, indent=1) + "\n")
    print(json.dumps({"steps": len(lines), "seconds": seconds}))


def sft(a):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer, settings = load(a, settings_of("sft.toml"))
    losses, tokens = [], []

    class Recorder(SFTTrainer):
        """Keeps losses as they are: the trainer's log rounds some of its numbers."""

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            losses.append((result[0] if return_outputs else result).item())
            tokens.append(int((inputs["labels"] != -100).sum()))
            return result

    config = SFTConfig(**settings, train_sampling_strategy="sequential")
    trainer = Recorder(model=model, args=config, train_dataset=Dataset.from_list(gsm8k(a.data)),
                       processing_class=tokenizer)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    norms = [line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line]
    lines = [{"step": i + 1, "loss": loss, "grad_norm": norm, "tokens": n}
             for i, (loss, norm, n) in enumerate(zip(losses, norms, tokens, strict=True))]
    write(a, lines, seconds)
    if a.save:
        model.save_pretrained(a.save)
        tokenizer.save_pretrained(a.save)


def replay(folder):
    """TRL's rollout function: the answers of Pavlov's run, file by file."""
    import pyarrow.parquet as parquet

    files = iter(sorted((folder / "rollouts").glob("step-*.parquet")))

    def rollout(prompts, _trainer):
        rows = parquet.read_table(next(files)).to_pylist()
        assert [row["prompt"] for row in rows] == prompts, "other prompts, or another order"
        return {"prompt_ids": [row["prompt_tokens"] for row in rows],
                "completion_ids": [row["tokens"] for row in rows],
                "logprobs": [row["logprobs"] for row in rows]}

    return rollout


def grpo(a):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from reward import share_of_e

    model, tokenizer, settings = load(a, settings_of("grpo.toml") | {"seed": a.seed})
    surprises = []

    class Recorder(GRPOTrainer):
        """Keeps the mean of -log p - entropy over each update's tokens: 0 but for chance if they were drawn from p."""

        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            self.seen = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            return self.seen

        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            surprise = -(self.seen[0] + self.seen[1]).detach()[inputs["completion_mask"].bool()].double()
            surprises.append((surprise.mean().item(), surprise.std().item() / len(surprise) ** 0.5))
            return loss

    def reward(completions, **_):
        return [share_of_e(completion) for completion in completions]

    trainer = Recorder(model=model, reward_funcs=reward, args=GRPOConfig(**settings),
                       train_dataset=Dataset.from_list(gsm8k(a.data)), processing_class=tokenizer,
                       rollout_func=replay(a.replay) if a.replay else None)
    start = time.perf_counter()
    trainer.train()
    keys = ("reward", "reward_std", "loss", "grad_norm", "entropy", "completions/mean_length")
    lines = [{key: line[key] for key in ("step", *keys) if key in line} | {"surprise": mean, "surprise_error": error}
             for line, (mean, error) in zip((line for line in trainer.state.log_history if "reward" in line), surprises,
                                            strict=True)]
    write(a, lines, time.perf_counter() - start, seed=a.seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("checkpoint", "rows"):
        verb = verbs.add_parser(name)
        verb.add_argument("data", type=Path)
        verb.add_argument("dir", type=Path)
    for name in ("sft", "grpo"):
        verb = verbs.add_parser(name)
        verb.add_argument("model", type=Path)
        verb.add_argument("data", type=Path)
        verb.add_argument("out", type=Path)
        verb.add_argument("--threads", type=int, default=2)
        verb.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: TRL's autocast")
    verbs.choices["sft"].add_argument("--save", type=Path)
    verbs.choices["grpo"].add_argument("--seed", type=int, required=True)
    verbs.choices["grpo"].add_argument("--replay", type=Path)
    a = parser.parse_args()
    {"checkpoint": checkpoint, "rows": rows, "sft": sft, "grpo": grpo}[a.verb](a)


if __name__ == "__main__":
    main()
