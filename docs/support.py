"""Writes the table of what is supported into docs/support.md, from the tests that show it.

    python docs/support.py            # after a row or a test has changed
    python docs/support.py --check    # says whether the page is out of date; the tests do this

A row names the test that runs it under each framework. A test that is not there, or skipped without condition, is an
error: what no test runs is not promised.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

from generate import renewed

from sstoken_transformers.doctor.versions import TESTED

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests"
PAGE = DOCS / "support.md"
FRAMEWORKS = ("TRL", "Axolotl", "ms-swift")

T, A = "trl/test_training.py::", "axolotl/test_training.py::"
FEATURES: dict[str, tuple[str | None, str | None]] = {
    "LoRA": (f"{T}test_first_loss_equals_the_reference", f"{A}test_first_loss_equals_the_reference"),
    "4-bit QLoRA (NF4)": (f"{T}test_first_loss_equals_the_reference", f"{A}test_first_loss_equals_the_reference"),
    "full fine-tuning": (
        "trl/test_auto.py::test_full_fine_tuning_equals_the_reference",
        "axolotl/test_auto.py::test_full_fine_tuning_equals_the_reference",
    ),
    "padded batches": (f"{T}test_first_loss_equals_the_reference", f"{A}test_first_loss_equals_the_reference"),
    "sample packing": (f"{T}test_first_loss_equals_the_reference", f"{A}test_first_loss_equals_the_reference"),
    "padding-free batches": (f"{T}test_first_loss_equals_the_reference", None),
    "conversations": (f"{T}test_first_loss_equals_the_reference", f"{A}test_one_line_in_a_yaml_that_works"),
    "plain text, without a prompt": (
        "trl/test_without_prompt.py::test_the_excess_loss_decides",
        "axolotl/test_auto.py::test_without_a_prompt",
    ),
    "pictures": ("trl/test_pictures.py::test_the_first_step_equals_the_reference", None),
    "weights that come with the data": (
        "trl/test_weights.py::test_a_sample_of_weight_0_has_no_influence",
        "axolotl/test_weights.py::test_a_turn_of_weight_0_has_no_influence",
    ),
    "every method": ("methods/test_trl.py::test_every_method_trains", None),
    "a step by a method equals its loss in full logits": (
        "methods/test_trl.py::test_a_step_is_that_of_the_published_loss",
        "axolotl/test_methods.py::test_a_step_is_that_of_the_published_loss",
    ),
    "the same for methods that compare with earlier steps": (
        "methods/test_trl.py::test_each_step_is_that_of_a_loss_that_remembers",
        "axolotl/test_methods.py::test_each_step_is_that_of_a_loss_that_remembers",
    ),
    "`history: base` and `adapter`": (
        f"{T}test_first_loss_equals_the_reference",
        f"{A}test_first_loss_equals_the_reference",
    ),
    "`history: snapshot` and `ema`": (
        "trl/test_histories.py::test_resuming_continues_exactly",
        "axolotl/test_histories.py::test_resuming_continues_exactly",
    ),
    "`history: recorded`": (
        "trl/test_histories.py::test_recorded_selects_what_base_does",
        "axolotl/test_histories.py::test_recorded_is_base",
    ),
    "`history: last_visit`": (
        "trl/test_histories.py::test_last_visit_compares_with_the_epoch_before",
        "axolotl/test_histories.py::test_full_fine_tuning",
    ),
    "a reference model": ("trl/test_reference.py::test_record_then_train", None),
    "a reference adapter": (
        "trl/test_reference.py::test_an_adapter",
        "axolotl/test_reference.py::test_an_adapter_and_an_anchor",
    ),
    "gradient accumulation": (
        f"{T}test_batch_and_accumulation_do_not_matter",
        f"{A}test_batch_and_accumulation_do_not_matter",
    ),
    "two processes (DDP)": (
        "trl/test_script.py::test_two_processes_end_where_one_does",
        f"{A}test_two_processes_are_one",
    ),
    "two processes (DeepSpeed ZeRO-2, ZeRO-3; FSDP 2)": (
        "trl/test_sharded.py::test_two_processes_are_one",
        "axolotl/test_sharded.py::test_two_processes_are_one",
    ),
    "an exact resume": (f"{T}test_resuming_continues_exactly", f"{A}test_resuming_continues_exactly"),
    "`load_best_model_at_end`": (
        f"{T}test_best_model_is_loaded_at_the_end",
        "axolotl/test_histories.py::test_the_best_adapter_alone_is_kept",
    ),
    "`torch_compile`": (f"{T}test_compiled", None),
    "a loss of the framework's own": (f"{T}test_a_loss_that_only_trl_can_compute_is_taken_over_the_kept_tokens", None),
    "streamed data": ("trl/test_script.py::test_two_processes_that_share_a_stream", None),
    "`sstoken doctor`": (
        "trl/test_doctor.py::test_it_counts_what_training_sees",
        "axolotl/test_doctor.py::test_it_counts_what_training_sees",
    ),
    "`sstoken inspect`": (
        "trl/test_inspect.py::test_before_training",
        "axolotl/test_inspect.py::test_it_shows_what_the_training_selects",
    ),
    "`sstoken record`": (
        "trl/test_record.py::test_record_then_train",
        "axolotl/test_auto.py::test_recorded_and_looked_at_by_the_commands",
    ),
    "`sstoken init`": (
        "trl/test_first_contact.py::test_init_writes_what_trains",
        "axolotl/test_init.py::test_init_writes_what_trains",
    ),
    "reports while training": (
        "trl/test_report.py::test_training_is_the_same_bit_for_bit",
        "axolotl/test_report.py::test_same_training_and_its_own_selection",
    ),
}
"""What, and the test that runs it under TRL and under Axolotl. None: no test runs it."""

S = "swift/test_swift.py::"
UNDER_SWIFT = {
    "LoRA": f"{S}test_the_first_step_equals_the_reference",
    "full fine-tuning": f"{S}test_the_first_step_equals_the_reference",
    "padded batches": f"{S}test_the_first_step_equals_the_reference",
    "an exact resume": f"{S}test_resuming_continues_exactly",
    "`sstoken doctor`": f"{S}test_the_doctor_picks_it_by_its_yaml",
    "`sstoken inspect`": f"{S}test_inspect",
}
"""The same under ms-swift; what is not here, no test runs."""


def cell(test: str | None) -> str:
    """How often a test runs.

    Raises:
        ValueError: if there is no such test.
    """
    if test is None:
        return "not tested"
    path, _, name = test.partition("::")
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not found:
        raise ValueError(f"tests/{path} has no test {name}: correct docs/support.py")
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    of_module = [node.value for node in assigned if ast.unparse(node).startswith("pytestmark")]
    nodes = [*found[0].decorator_list, *of_module]
    marks = [ast.unparse(each) for each in nodes]
    if any(each.startswith("pytest.mark.skip") and "if" not in each for each in marks):
        raise ValueError(f"tests/{path}::{name} is skipped: correct docs/support.py")
    if any("mark.gpu" in each for each in marks):
        return "on a GPU"
    return "yes (slow tests)" if any(map(_is_slow, nodes)) else "yes"


def _is_slow(mark: ast.expr) -> bool:
    """Whether it makes every case slow: of parameters, all have to be marked."""
    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.parametrize":
        cases = mark.args[1].elts if isinstance(mark.args[1], ast.List | ast.Tuple) else ()
        return bool(cases) and all("mark.slow" in ast.unparse(case) for case in cases)
    return "mark.slow" in ast.unparse(mark)


def versions() -> str:
    lines = ["| package | versions that the tests run with |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {package} | {', '.join(known)} |" for package, known in TESTED.items())])


def matrix() -> str:
    lines = [f"| | {' | '.join(FRAMEWORKS)} |", "| --- " * (len(FRAMEWORKS) + 1) + "|"]
    for what, tests in FEATURES.items():
        lines.append(f"| {what} | {' | '.join(map(cell, (*tests, UNDER_SWIFT.get(what))))} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page is out of date")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    new = renewed(text, f"{versions()}\n\n{matrix()}")
    if check and new != text:
        print(f"{PAGE} is out of date: run `python docs/support.py`.", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
