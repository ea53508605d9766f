"""What nano's text tower learns first: to say what its teacher says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from open_clip import IMAGENET_CLASSNAMES

from .pairs import held_out_photos
from .text_tower import Student, Teacher, distil, prune_vocabulary
from .texts import COCO_NAMES, Caption, class_words

_LESSON_CAPTIONS = 16_000
_LESSON_EPOCHS = 3
_LESSON_RATE = 4e-4


@dataclass(frozen=True)
class Lesson:
    """What the teacher says: phrases and its pooled states (n, 384)."""

    phrases: list[str]
    states: torch.Tensor


def teach_student(
    captions: list[Caption], teacher: Path, *, device: str, seed: int
) -> tuple[Student, Lesson]:
    """Cut the text tower down and teach it the teacher's states.

    The lesson holds noun phrases, some captions and every whole word of the vocabulary, so that
    words that no caption uses keep their meaning.
    """
    torch.manual_seed(seed)
    held_out = held_out_photos(captions, seed)
    training = [caption for caption in captions if caption.photo not in held_out]
    texts = sorted({caption.text for caption in training})
    nouns = sorted({phrase for caption in training for phrase in caption.noun_phrases})
    names = [*COCO_NAMES, *class_words(), *IMAGENET_CLASSNAMES]
    master = Teacher(teacher, device)
    vocabulary = prune_vocabulary(master, [*texts, *nouns, *names * 3])
    student = Student(master, vocabulary).to(device)
    words = [word for word in vocabulary if word.isalpha() and len(word) > 2]
    few = np.random.default_rng(seed).choice(
        texts, min(len(texts), _LESSON_CAPTIONS), replace=False
    )
    phrases = [*few.tolist(), *nouns, *words, *names]
    lesson = Lesson(phrases, master.embed(phrases))
    distil(student, phrases, lesson.states, epochs=_LESSON_EPOCHS, rate=_LESSON_RATE, seed=seed)
    return student, lesson
