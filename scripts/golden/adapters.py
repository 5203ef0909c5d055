"""Writes the adapter fixtures: small random PEFT adapters of the checkpoints of cases.py, and what PEFT computes with them.

    python scripts/golden/adapters.py [case ...]

The fixtures are those of parity.py, of the adapter's tensors: README.md beside this file describes them.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

import parity
from cases import CASES, Case
from common import LM_GOLDEN, versions


@dataclass
class Adapter:
    """An adapter of a checkpoint of cases.py."""

    name: str
    about: str
    base: str
    config: LoraConfig
    weighted: bool = False
    optimizer: bool = True
    bf16: bool = False


ADAPTERS = [
    Adapter("lora-llama", "LoRA on every linear layer of Llama", "llama",
            LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules="all-linear"), weighted=True, bf16=True),
    Adapter("lora-qwen3", "rank-stabilised LoRA on some linear layers of Qwen3, named by their ends", "qwen3",
            LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, use_rslora=True,
                       target_modules=["q_proj", "v_proj", "mlp.down_proj"])),
    Adapter("lora-smollm2", "LoRA on every linear layer of a model with a tied head stored in bfloat16", "smollm2",
            LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules="all-linear")),
    Adapter("lora-gpt2", "LoRA on every Conv1D of GPT-2: queries, keys and values share an A", "gpt2",
            LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=3, target_modules="all-linear")),
    Adapter("lora-reward-llama", "LoRA of a reward model, whose head is trained whole", "reward-llama",
            LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=4, target_modules="all-linear")),
]


def make(adapter: Adapter) -> None:
    folder = LM_GOLDEN / adapter.name
    shutil.rmtree(folder, ignore_errors=True)
    of_base = next(case for case in CASES if case.name == adapter.base)
    case = Case(adapter.name, adapter.about, of_base.config, kind=of_base.kind, storage=of_base.storage,
                weighted=adapter.weighted, bf16=adapter.bf16, optimizer=adapter.optimizer)

    torch.manual_seed(sum(adapter.name.encode()))
    model = get_peft_model(parity.load(of_base, LM_GOLDEN / adapter.base), adapter.config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:  # B is zero in a new adapter, and would hide A
                parameter.normal_(0.0, 0.25)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # No path of the machine that made the fixture, and no order that changes between runs.
    config |= {"base_model_name_or_path": adapter.base, "target_modules": sorted(config["target_modules"])}
    if config["modules_to_save"]:
        config["modules_to_save"] = sorted(config["modules_to_save"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def load(_: Case, folder: Path):
        base = parity.load(of_base, LM_GOLDEN / adapter.base)
        return PeftModel.from_pretrained(base, folder, is_trainable=True).eval()

    parity.compute(case, folder, load, versions("torch", "transformers", "peft", "safetensors"))


def main() -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    wanted = set(sys.argv[1:]) or {adapter.name for adapter in ADAPTERS}
    unknown = wanted - {adapter.name for adapter in ADAPTERS}
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}")
    for adapter in ADAPTERS:
        if adapter.name in wanted:
            make(adapter)


if __name__ == "__main__":
    main()
