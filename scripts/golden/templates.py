"""Writes crates/pavlov-lm/tests/golden/templates.json: chat templates as `transformers` renders them.

    python scripts/golden/templates.py

Templates come from the installed `trl` package and from templates/ beside this file; README.md names their sources.
"""

from importlib.resources import files
from pathlib import Path

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from common import LM_GOLDEN, versions, write_json
from conversations import CONVERSATIONS

HERE = Path(__file__).resolve().parent / "templates"
TRL = files("trl") / "chat_templates"

LLAMA3 = dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")
CHATML = dict(bos_token=None, eos_token="<|im_end|>")
MISTRAL = dict(bos_token="<s>", eos_token="</s>")
GEMMA = dict(bos_token="<bos>", eos_token="<eos>")

# name, where the text comes from, special tokens, further variables to render with (each set is one more rendering)
TEMPLATES = [
    ("llama3", TRL, LLAMA3, [{}]),
    ("llama3_training", TRL, LLAMA3, [{}]),
    ("llama3_1", TRL, LLAMA3, [{}, {"tools_in_user_message": False, "date_string": "01 Feb 2025"}]),
    ("llama3_2", TRL, LLAMA3, [{"date_string": "26 Jul 2024"}]),
    ("qwen2_5", TRL, CHATML, [{}]),
    ("qwen2_5_training", TRL, CHATML, [{}]),
    ("qwen3", TRL, CHATML, [{}, {"enable_thinking": False}]),
    ("qwen3_training", TRL, CHATML, [{}]),
    ("gemma", TRL, GEMMA, [{}]),
    ("gemma_training", TRL, GEMMA, [{}]),
    ("gemma3", TRL, GEMMA, [{}]),
    ("phi3_training", TRL, dict(bos_token="<s>", eos_token="<|endoftext|>"), [{}]),
    ("mistral_v1", HERE, MISTRAL, [{}]),
    ("mistral_v2v3", HERE, MISTRAL, [{}]),
    ("chatml", HERE, CHATML, [{}]),
    ("zephyr", HERE, MISTRAL, [{}]),
    ("smollm2", HERE, dict(bos_token="<|im_start|>", eos_token="<|im_end|>"), [{}]),
    ("blocks", HERE, CHATML, [{}]),
    ("methods", HERE, CHATML, [{}]),
    ("generation", HERE, CHATML, [{}]),
]


def render(template: str, conversation: dict, tokens: dict, variables: dict, prompt: bool) -> dict:
    """One rendering, or the error it ends in."""
    marked = "generation %}" in template or "generation -%}" in template
    case = {"conversation": conversation["name"], "add_generation_prompt": prompt, "variables": variables,
            "rendered": None, "generation_spans": None, "error": None, "raised": False}
    present = {key: value for key, value in tokens.items() if value is not None}
    try:
        rendered, spans = render_jinja_template(
            [conversation["messages"]], tools=conversation["tools"], chat_template=template,
            return_assistant_tokens_mask=marked, add_generation_prompt=prompt, **present, **variables)
    except jinja2.exceptions.TemplateSyntaxError:
        raise
    except (jinja2.exceptions.TemplateError, TypeError, AttributeError) as error:
        case["error"] = f"{type(error).__name__}: {error}"
        case["raised"] = type(error) is jinja2.exceptions.TemplateError  # by the template's own raise_exception
        return case
    case["rendered"] = rendered[0]
    if marked:
        case["generation_spans"] = [list(span) for span in spans[0]]
        if not prompt:
            case["generation_texts"] = [rendered[0][a:b] for a, b in spans[0]]
    return case


def main() -> None:
    out = []
    for name, folder, tokens, variable_sets in TEMPLATES:
        template = (folder / f"{name}.jinja").read_text(encoding="utf-8")
        own = name in ("blocks", "methods", "generation")
        cases = []
        for variables in variable_sets:
            for conversation in CONVERSATIONS:
                if conversation["tools"] and "tools" not in template or own and not conversation["plain"]:
                    continue
                if conversation["name"] == "text parts" and "is string" not in template:
                    continue  # would print Python's own form of a list
                for prompt in (False, True):
                    if variables and not (conversation["tools"] or prompt):
                        continue
                    cases.append(render(template, conversation, tokens, variables, prompt))
        out.append({"name": name, **tokens, "template": template, "cases": cases})
        failed = sum(case["error"] is not None for case in cases)
        print(f"{name}: {len(cases)} renderings, {failed} errors")
    write_json(LM_GOLDEN / "templates.json", {
        "versions": versions("transformers", "jinja2", "trl"), "conversations": CONVERSATIONS, "templates": out})


if __name__ == "__main__":
    main()
