"""Rho-1, TokenCleaning or Forgetting from end to end: a reference is trained on clean answers of GSM8K, and then a
model on others of which some are wrong.

    pip install ".[demo]"          # in a checkout of sstoken-plugins
    python recipes/prior_works/run.py rho1 --gsm8k gsm8k
    python recipes/prior_works/run.py token_cleaning --gsm8k gsm8k
    python recipes/prior_works/run.py forgetting --gsm8k gsm8k --steps 200 --samples 2000

TokenCleaning and Forgetting rank over the whole data, as published: the base model and the reference are recorded
first. With `--over sample` nothing is recorded, and the reference is an adapter beside the one in training.

It prints the loss on held-out answers before and after, and how much was kept of right and of wrong answers.
"""

from __future__ import annotations

import json
from typing import Any

from common import Data, held_out_loss, make_parser, merged, model_of, recorded, trained_reference, trainer


def kept_shares(made: Any, data: Data) -> dict[str, float]:
    """How much of the noisy part has a positive weight at the end, by whether the answer is right."""
    counts = {"right": [0, 0], "wrong": [0, 0]}
    device = made.model.device
    made.model.train()
    for is_right, tokens in zip(data.is_right, made.train_dataset, strict=True):
        batch = made.data_collator([tokens])
        made.token_selector.lookup(batch)
        batch = {name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()}
        selection = made.token_selector.inspect(made.model, batch, made.state.global_step)
        which = counts["right" if is_right else "wrong"]
        which[0] += int((selection.weights > 0).sum())
        which[1] += int(selection.documents.response.sum())
    return {name: kept / total for name, (kept, total) in counts.items() if total}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("strategy", choices=("rho1", "token_cleaning", "forgetting"))
    parser.add_argument("--over", choices=("data", "sample"), default="data", help="what tokens are ranked among")
    options = parser.parse_args()
    model = model_of(options)
    data = Data(options, model)
    reference = trained_reference(options, model, data)
    chosen: dict[str, Any] = {"sstoken_strategy": options.strategy}
    if options.strategy == "rho1":
        chosen["sstoken_reference_adapter"] = reference
    elif options.over == "sample":
        chosen |= {"sstoken_over": "sample", "sstoken_reference_adapter": reference}
    else:
        merged_reference = merged(reference, model, options.output / "reference-merged")
        chosen |= {
            "sstoken_reference_store": recorded(options, merged_reference, data.noisy, "reference-store"),
            "sstoken_history": "recorded",
            "sstoken_history_store": str(options.output / "history-store"),
            "sstoken_history_record": True,
        }
    made = trainer(options, model, data.noisy, data.held_out, options.strategy, sstoken=True, **chosen)
    before = held_out_loss(made)
    made.train()
    made.save_model()
    found = {
        "strategy": options.strategy,
        "steps": options.steps,
        "held_out_loss_before": before,
        "held_out_loss_after": held_out_loss(made),
        "kept": kept_shares(made, data),
        "log": [entry for entry in made.state.log_history if "loss" in entry],
    }
    path = options.output / options.strategy / "result.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"Held-out loss {before:.4f} -> {found['held_out_loss_after']:.4f}")
    print("Trained on at the end: " + ", ".join(f"{s:.1%} of {w} answers" for w, s in found["kept"].items()))
    print(f"Written to {path}")


if __name__ == "__main__":
    main()
