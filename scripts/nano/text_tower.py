"""nano's text tower: MiniLM-L6-v2 cut to three layers and a small vocabulary, distilled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

VOCABULARY = 6600
CONTEXT = 40
_LAYERS = (0, 2, 4)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Teacher:
    """MiniLM with mean pooling over its tokens."""

    def __init__(self, folder: Path, device: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval().to(device)
        self.device = device

    @torch.inference_mode()
    def embed(self, phrases: Sequence[str]) -> torch.Tensor:
        """Return mean-pooled states (n, 384) of `phrases`, on the CPU in float32."""
        order = np.argsort([len(phrase) for phrase in phrases], kind="stable")
        pooled = torch.zeros(len(phrases), self.model.config.hidden_size)
        for rows in np.array_split(order, max(1, len(phrases) // 64)):
            texts = [phrases[row] for row in rows]
            inputs = self.tokenizer(
                texts, return_tensors="pt", padding=True, truncation=True, max_length=CONTEXT
            ).to(self.device)
            states = self.model(**inputs).last_hidden_state
            pooled[rows] = mean_pool(states, inputs["attention_mask"]).cpu()
        return pooled


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average the states of real tokens, as open_clip's ``mean_pooler`` does."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def prune_vocabulary(teacher: Teacher, phrases: Sequence[str]) -> list[str]:
    """Choose the word pieces to keep, in the teacher's order.

    Single characters stay, so that any word can be spelt; then come the pieces of `phrases` by
    frequency, and the head of the teacher's own list, which is ordered by frequency in English.
    """
    known: dict[str, int] = teacher.tokenizer.get_vocab()
    by_id = sorted(known, key=known.__getitem__)
    counts = Counter(
        piece
        for start in range(0, len(phrases), 4096)
        for ids in teacher.tokenizer(list(phrases[start : start + 4096]))["input_ids"]
        for piece in teacher.tokenizer.convert_ids_to_tokens(ids)
    )
    ascii_pieces = [piece for piece in by_id if piece.isascii() and "unused" not in piece]
    letters = [piece for piece in ascii_pieces if len(piece.removeprefix("##")) == 1]
    frequent = [piece for piece, count in counts.most_common() if count >= 3]
    common = [piece for piece in ascii_pieces if piece.removeprefix("##").isalpha()]
    wanted = dict.fromkeys([*_SPECIAL, *letters, *frequent, *common])
    kept = set(list(wanted)[:VOCABULARY])
    return [*_SPECIAL, *(piece for piece in by_id if piece in kept and piece not in _SPECIAL)]


class Student(nn.Module):
    """The cut-down tower, and its tokenizer.

    Parameters
    ----------
    teacher : Teacher
        Layers and embeddings are copied from it.
    vocabulary : list of str
        Pieces to keep; the first is the padding.
    """

    def __init__(self, teacher: Teacher, vocabulary: list[str]) -> None:
        super().__init__()
        source = teacher.model
        options = source.config.to_dict() | {
            "num_hidden_layers": len(_LAYERS),
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 64,
            "pad_token_id": 0,
        }
        self.config = BertConfig(**options)
        self.transformer = BertModel(self.config, add_pooling_layer=False)
        ids = teacher.tokenizer.convert_tokens_to_ids(vocabulary)
        target, origin = self.transformer.embeddings, source.embeddings
        with torch.no_grad():
            target.word_embeddings.weight.copy_(origin.word_embeddings.weight[ids])
            target.position_embeddings.weight.copy_(origin.position_embeddings.weight[:64])
            target.token_type_embeddings.load_state_dict(origin.token_type_embeddings.state_dict())
            target.LayerNorm.load_state_dict(origin.LayerNorm.state_dict())
        for new, old in enumerate(_LAYERS):
            layer = source.encoder.layer[old].state_dict()
            self.transformer.encoder.layer[new].load_state_dict(layer)
        self.tokenizer = BertWordPieceTokenizer(
            vocab={piece: number for number, piece in enumerate(vocabulary)}, lowercase=True
        )
        self.tokenizer.enable_padding(pad_id=0)
        self.tokenizer.enable_truncation(CONTEXT)

    def forward(self, phrases: Sequence[str]) -> torch.Tensor:
        """Return mean-pooled states (n, 384)."""
        device = self.transformer.embeddings.word_embeddings.weight.device
        encodings = self.tokenizer.encode_batch(list(phrases))
        ids = torch.tensor([encoding.ids for encoding in encodings], device=device)
        mask = torch.tensor([encoding.attention_mask for encoding in encodings], device=device)
        states = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        return mean_pool(states, mask)

    def save(self, folder: Path) -> None:
        """Write config and tokenizer as `transformers` reads them."""
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.save(str(folder / "tokenizer.json"))
        names = dict(zip(("pad", "unk", "cls", "sep", "mask"), _SPECIAL, strict=True))
        tokens = {f"{name}_token": token for name, token in names.items()}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT}
        _write_json(folder / "tokenizer_config.json", settings | tokens)
        keys = (
            "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "hidden_act", "max_position_embeddings", "type_vocab_size", "vocab_size",
            "layer_norm_eps", "pad_token_id",
        )  # fmt: skip
        options = {key: getattr(self.config, key) for key in keys}
        _write_json(folder / "config.json", {"model_type": "bert"} | options)


def distil(
    student: Student,
    phrases: Sequence[str],
    targets: torch.Tensor,
    *,
    epochs: int,
    rate: float,
    seed: int,
) -> None:
    """Train the student to give the teacher's mean-pooled states.

    Parameters
    ----------
    student : Student
        Changed in place.
    phrases : sequence of n str
        Corpus.
    targets : tensor of shape (n, 384)
        The teacher's states.
    epochs : int
        Passes.
    rate : float
        Peak learning rate of a one-cycle schedule.
    seed : int
        Of the order.
    """
    generator = np.random.default_rng(seed)
    steps = epochs * (len(phrases) // 64)
    optimizer = torch.optim.AdamW(student.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
    device = next(student.parameters()).device
    student.train()
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the targets are exact; noise only slows the student
    average = 0.0
    for step, rows in enumerate(_similar_lengths(phrases, epochs, steps, generator)):
        wanted = targets[rows].to(device)
        given = student([phrases[row] for row in rows])
        angle = 1 - functional.cosine_similarity(given, wanted).mean()
        loss = angle + functional.mse_loss(given, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average = 0.98 * average + 0.02 * float(angle)
        if step % 100 == 0:
            print(f"distil {step} / {steps}: 1 - cosine {average:.4f}", flush=True)
    student.eval()


def _similar_lengths(
    phrases: Sequence[str], epochs: int, steps: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Return batches of phrases of nearly the same length, so that little is padding."""
    lengths = np.array([len(phrase) for phrase in phrases])
    batches: list[np.ndarray] = []
    for _ in range(epochs):
        order = np.argsort(lengths + generator.uniform(0, 6, len(lengths)))
        parts = np.array_split(order, max(1, steps // epochs))
        batches += [parts[number] for number in generator.permutation(len(parts))]
    return batches


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
