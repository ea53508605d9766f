"""The sizes of a BERT text tower, and the weights that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BertShape"]

_ROOT = "text.transformer."


@dataclass(frozen=True)
class BertShape:
    """The sizes of the tower; the field names are those of transformers' ``config.json``.

    Parameters
    ----------
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size : int
        Of the transformer; the heads divide `hidden_size`.
    max_position_embeddings, type_vocab_size, vocab_size : int
        Numbers of embeddings.
    layer_norm_eps : float
        What keeps layer normalization from dividing by zero.
    pad_token_id : int
        The id that attention ignores.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    vocab_size: int
    layer_norm_eps: float
    pad_token_id: int

    def weights(self, dimension: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all weights by name, for embeddings of length `dimension`."""
        width, hidden = self.hidden_size, (self.hidden_size + dimension) // 2
        shapes: dict[str, tuple[int, ...]] = {
            "text.proj.0.weight": (hidden, width),
            "text.proj.2.weight": (dimension, hidden),
        }
        for name, count in (
            ("word", self.vocab_size),
            ("position", self.max_position_embeddings),
            ("token_type", self.type_vocab_size),
        ):
            shapes[f"{_ROOT}embeddings.{name}_embeddings.weight"] = (count, width)
        norms, layers = [f"{_ROOT}embeddings.LayerNorm"], {}
        for number in range(self.num_hidden_layers):
            layer = f"{_ROOT}encoder.layer.{number}."
            norms += [f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                layers[f"{layer}attention.{part}"] = (width, width)
            layers[f"{layer}intermediate.dense"] = (self.intermediate_size, width)
            layers[f"{layer}output.dense"] = (width, self.intermediate_size)
        shapes |= {f"{name}.{part}": (width,) for name in norms for part in ("weight", "bias")}
        shapes |= {f"{name}.weight": shape for name, shape in layers.items()}
        return shapes | {f"{name}.bias": shape[:1] for name, shape in layers.items()}
