"""The bundled encoder is loaded without open_clip, and must be what open_clip makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from retrieval_grounding import ModelError, Regions
from retrieval_grounding.models.bert_folder import read_bert_folder
from retrieval_grounding.models.clip import OpenClipEncoder
from retrieval_grounding.models.clip_weights import hash_weights, load_open_clip
from retrieval_grounding.models.presets import bundled_path
from retrieval_grounding.models.text_tower import OpenClipText
from retrieval_grounding.models.timm_folder import read_timm_tower

PHRASES = [
    "a red bus", "the", "THE SECOND DOG from the left", "l'été à la plage", "naïve café",
    "xqzzv wvut 8472", "a man " * 60, "&amp;lt; a dog", "schÃ¶ne TÃ¼r", "[MASK] [SEP] [PAD] dog",
    "狗 собака 🐕", "don't touch: e-mail@home.org", "a" * 300, "b\u0301ad cafe\u0301 ﬁsh",
]  # fmt: skip
TEXT = st.one_of(
    st.text(min_size=1, max_size=80),
    st.text(st.characters(codec="ascii"), min_size=1, max_size=120),
    st.lists(
        st.sampled_from(
            "a red bus dogs ##s [CLS] [PAD] [UNK] &amp; &#39; é ß İ 狗 \u00ad \u200b \ufffd “x”"
            " unbelievably 10,000 \x1b[31m".split(" ")
        ),
        min_size=1,
        max_size=60,
    ).map(" ".join),
)


@pytest.fixture(scope="module", params=["bundled", "random"])
def folder(request, tmp_path_factory) -> Path:
    """The bundled encoder, and one with other weights and another input size."""
    if request.param == "bundled":
        return bundled_path("clip")
    return random_folder(tmp_path_factory.mktemp("clip") / "random")


def random_folder(target: Path) -> Path:
    shutil.copytree(bundled_path("clip"), target)
    generator = torch.Generator().manual_seed(7)
    file = target / "open_clip_model.safetensors"
    weights = {
        name: value + 0.02 * torch.randn(value.shape, generator=generator).to(value.dtype)
        if name.startswith("text.") or name == "logit_scale"
        else value
        for name, value in load_file(file).items()
    }
    save_file({name: value.contiguous() for name, value in weights.items()}, file)
    edit(
        target,
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(image_size=192),
    )
    return target


def edit(folder: Path, name: str, change) -> None:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def encoder(folder) -> OpenClipEncoder:
    assert read_bert_folder(folder) is not None
    return OpenClipEncoder(str(folder), "cpu")


@pytest.fixture(scope="module")
def original(folder):
    """open_clip's model and tokenizer of the folder."""
    model, tokenizer = load_open_clip(str(folder))
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def word_pieces():
    return read_bert_folder(bundled_path("clip")).tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_open_clip("nano")[1]


def test_the_fingerprint_is_that_of_open_clip(encoder, original):
    model, _ = original
    config = model.visual.preprocess_cfg
    assert encoder.fingerprint.weights == hash_weights(sorted(model.state_dict().items()))
    assert encoder.fingerprint.preprocessing == (
        f"squash {max(config['size'])} {config['interpolation']} mean 0.5/0.5/0.5 std 0.5/0.5/0.5"
    )


def test_phrases_are_embedded_as_by_open_clip(encoder, original):
    model, tokenizer = original
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(PHRASES), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_phrases(PHRASES), expected, atol=1e-5)


def test_regions_are_embedded_as_by_open_clip(encoder, original):
    model, _ = original
    size = max(model.visual.preprocess_cfg["size"])
    pixels = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    with torch.inference_mode():
        normalized = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        expected = model.encode_image(normalized, normalize=True).numpy()
    whole = Regions.whole_image(size, size)
    found = encoder.encode_regions([Image.fromarray(pixels)], [whole])
    np.testing.assert_allclose(found, expected, atol=1e-4)


@settings(max_examples=300, deadline=None)
@given(TEXT)
@example("")
@example(" \t\n")
@example("a" * 5000)
@example("dog " * 38)
@example("dog " * 39)
@example("dog " * 40)
def test_any_text_is_tokenized_as_by_open_clip(word_pieces, tokenizer, text):
    expected = tokenizer([text])[0].tolist()
    ids = word_pieces.ids(text)
    assert ids + [word_pieces.padding] * (40 - len(ids)) == expected
    assert word_pieces.pieces(text) == OpenClipText(None, tokenizer, "cpu").pieces(text)


def test_company_does_not_change_an_embedding(encoder):
    alone = np.concatenate([OpenClipEncoder.encode_phrases(encoder, [p]) for p in PHRASES])
    encoder._phrases.clear()
    np.testing.assert_allclose(encoder.encode_phrases(PHRASES), alone, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_embeds_as_a_cpu(encoder, folder):
    on_gpu = OpenClipEncoder(str(folder), "cuda")
    assert on_gpu.fingerprint == encoder.fingerprint
    there, here = on_gpu.encode_phrases(PHRASES), encoder.encode_phrases(PHRASES)
    assert (there * here).sum(1).min() > 0.999
    picture = Image.effect_noise((90, 70), 60).convert("RGB")
    whole = [Regions.whole_image(90, 70)]
    there, here = (each.encode_regions([picture], whole) for each in (on_gpu, encoder))
    assert float((there * here).sum()) > 0.999


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda c: c.update(hidden_act="relu")),
        ("config.json", lambda c: c.update(position_embedding_type="relative_key")),
        ("config.json", lambda c: c.update(pad_token_id=1)),
        ("config.json", lambda c: c.pop("layer_norm_eps")),
        ("config.json", lambda c: c.update(num_hidden_layers=2)),
        ("config.json", lambda c: c.update(num_attention_heads=7)),
        ("config.json", lambda c: c.update(vocab_size="many")),
        ("tokenizer_config.json", lambda c: c.update(do_lower_case=False)),
        ("tokenizer_config.json", lambda c: c.update(tokenizer_class="BertTokenizer")),
        ("tokenizer_config.json", lambda c: c.update(mask_token="[NEW]")),
        ("tokenizer_config.json", lambda c: c.pop("pad_token")),
        ("tokenizer.json", lambda c: c.pop("model")),
        ("tokenizer.json", lambda c: c.update(post_processor=None)),
        ("open_clip_config.json", lambda c: c["model_cfg"].update(init_logit_bias=-10)),
        ("open_clip_config.json", lambda c: c["model_cfg"].update(multimodal_cfg={})),
        ("open_clip_config.json", lambda c: c["model_cfg"].update(text_cfg=None)),
        ("open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(context_length=65)),
        (
            "open_clip_config.json",
            lambda c: c["model_cfg"]["text_cfg"].update(hf_pooler_type="cls_pooler"),
        ),
        ("open_clip_config.json", lambda c: c["preprocess_cfg"].pop("mean")),
    ],
)
def test_what_differs_is_left_to_open_clip(tmp_path, name, change):
    folder = shutil.copytree(bundled_path("clip"), tmp_path / "clip")
    assert read_bert_folder(folder) is not None
    edit(folder, name, change)
    assert read_bert_folder(folder) is None


def test_unknown_files_and_weights_are_left_to_open_clip(tmp_path):
    folder = shutil.copytree(bundled_path("clip"), tmp_path / "clip")
    for name in ("special_tokens_map.json", "added_tokens.json", "processor_config.json"):
        (folder / name).write_text("{}")
        assert read_bert_folder(folder) is None
        (folder / name).unlink()
    file = folder / "open_clip_model.safetensors"
    weights = load_file(file)
    save_file(weights | {"logit_bias": torch.zeros(())}, file)
    assert read_bert_folder(folder) is None
    file.write_bytes(file.read_bytes()[:-1])
    assert read_bert_folder(folder) is None
    with pytest.raises(ModelError, match="could not be loaded"):
        OpenClipEncoder(str(folder), "cpu")


@pytest.mark.parametrize("name", [3, ["resnet18"], "resnet18.x:evil", "hf-hub:timm/resnet18"])
def test_an_image_tower_without_a_sound_name_is_left_to_open_clip(tmp_path, name):
    folder = shutil.copytree(bundled_path("clip"), tmp_path / "clip")
    assert read_timm_tower(folder) is not None
    change = {"timm_model_name": name}
    edit(folder, "open_clip_config.json", lambda c: c["model_cfg"]["vision_cfg"].update(change))
    assert read_timm_tower(folder) is None
    with pytest.raises(ModelError, match="could not be"):
        OpenClipEncoder(str(folder), "cpu").load_image_tower()


def test_weights_that_are_replaced_meanwhile_are_not_mixed(tmp_path):
    folder = shutil.copytree(bundled_path("clip"), tmp_path / "clip")
    encoder = OpenClipEncoder(str(folder), "cpu")
    encoder.encode_phrases(["a dog"])
    file = folder / "open_clip_model.safetensors"
    weights = load_file(file)
    weights["logit_scale"] += 1
    save_file(weights, file)
    with pytest.raises(ModelError, match="have changed since they were loaded"):
        encoder.encode_regions([Image.new("RGB", (8, 8))], [Regions.whole_image(8, 8)])
