"""TokenCleaning's self-evolving form: the data are cut into parts, and each part's reference is the model that the
parts before it have made.

    pip install ".[demo]"          # in a checkout of sstoken-plugins
    python recipes/prior_works/self_evolving.py --gsm8k gsm8k
    python recipes/prior_works/self_evolving.py --gsm8k gsm8k --parts 3 --steps 20 --samples 300

The first part trains whole. On each later part, the tokens with the highest `log q_reference - log q_base` train, and
training goes on from where it was; `--steps` counts those of one part. Tokens are ranked within each sample, or, with
`--over data`, within the part, for which base and reference are recorded at each stage. The clean part is not used.
"""

from __future__ import annotations

import json
from typing import Any

from common import Data, held_out_loss, make_parser, merged, model_of, recorded, trainer
from peft import AutoPeftModelForCausalLM


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--parts", type=int, default=5, help="parts that the data are cut into")
    parser.add_argument("--rho", type=float, default=0.6, help="fraction of the tokens that trains")
    parser.add_argument("--over", choices=("sample", "data"), default="sample", help="what tokens are ranked among")
    options = parser.parse_args()
    model = model_of(options)
    data = Data(options, model)
    losses: list[float] = []
    adapter: str | None = None
    for number in range(options.parts):
        part = data.noisy.shard(options.parts, number)
        made = trainer(options, start(model, adapter), part, data.held_out, f"stage-{number + 1}",
                       **chosen(options, model, adapter, part, number))  # fmt: skip
        made.train()
        made.save_model()
        losses.append(held_out_loss(made))
        adapter = str(options.output / f"stage-{number + 1}")
        print(f"Part {number + 1} of {options.parts}: held-out loss {losses[-1]:.4f}, saved to {adapter}")
    path = options.output / "self-evolving.json"
    path.write_text(json.dumps({"parts": options.parts, "held_out_loss": losses}, indent=2) + "\n", encoding="utf-8")
    print(f"Written to {path}")


def start(model: str, adapter: str | None) -> Any:
    """The model that a stage goes on from."""
    if adapter is None:
        return model
    return AutoPeftModelForCausalLM.from_pretrained(adapter, is_trainable=True, dtype="float32")


def chosen(options: Any, model: str, adapter: str | None, part: Any, number: int) -> dict[str, Any]:
    """The options of a stage's selection."""
    if adapter is None:
        return {"sstoken": False}
    settings = {"sstoken": True, "sstoken_strategy": "token_cleaning", "sstoken_rho": options.rho}
    if options.over == "sample":
        return {**settings, "sstoken_over": "sample", "sstoken_reference_adapter": adapter}
    reference = merged(adapter, model, options.output / f"reference-{number + 1}")
    return {
        **settings,
        "sstoken_reference_store": recorded(options, reference, part, f"reference-store-{number + 1}"),
        "sstoken_history": "recorded",
        "sstoken_history_store": str(options.output / f"history-store-{number + 1}"),
        "sstoken_history_record": True,
    }


if __name__ == "__main__":
    main()
