"""The kinds of public bug reports of similar tools, what each gets here, and which test shows it.

Each kind was tried on the project, mended as a kind, and kept as a test that failed before. The
table is for readers; the test checks that every test it names exists.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# kind of report: (what it gets here, tests that show it, as module::test)
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    # Training and figures
    "a null box hides a valid one": (
        "null counts as missing, in JSON lines, CSV and predictions",
        ("test_expression_cases::test_case_04_a_null_box_does_not_hide_a_valid_one",
         "test_expression_cases::test_null_boxes_hide_no_other_in_csv_and_predictions"),
    ),
    "counts of what was left out are unreadable": (
        "plain reasons with their counts, in text and JSON",
        ("test_expression_cases::test_case_05_what_was_left_out_is_counted_by_plain_reasons",
         "test_expression_cases::test_what_was_left_out_is_counted_by_plain_reasons"),
    ),
    "the same file name in another folder": (
        "folders in a name must match, else image-not-in-index",
        ("test_expression_cases::"
         "test_case_06_a_name_never_finds_the_photograph_of_a_different_folder",
         "test_expression_cases::test_folders_in_a_name_must_match"),
    ),
    "boxes from 0 to 1": (
        "refused as normalized-box, with the advice to use pixels",
        ("test_expression_cases::test_case_07_boxes_from_0_to_1_are_named",
         "test_expression_cases::test_predictions_from_0_to_1_are_named"),
    ),
    "a resumed training is a different one": (
        "the checkpoint is refused unless everything that matters is the same",
        ("test_training_trust::test_a_training_that_differs_in_anything_is_not_resumed",
         "test_training_trust::test_the_identity_covers_vocabulary_weights_and_release"),
    ),
    "validation images are in the training set": (
        "images are split by content, and fine-tuning keeps known images in training",
        ("test_training_trust::test_copies_of_an_image_are_never_on_both_sides",
         "test_training_trust::test_fine_tuning_holds_out_what_the_first_matcher_has_not_seen"),
    ),
    "figures measured on training images": (
        "evaluate counts them and says so",
        ("test_training_trust::test_evaluating_on_training_images_is_reported",),
    ),
    "training makes results worse": (
        "nothing is installed, exit code 1 with the reason",
        ("test_training_trust::test_a_training_that_ends_worse_installs_nothing_and_says_why",
         "test_training_trust::test_the_command_exits_with_1_and_shows_the_figures"),
    ),
    "NaN scores and losses": (
        "a diverged training ends, and scores that are not finite are refused",
        ("test_training_trust::test_a_loss_that_is_not_a_number_ends_the_training",
         "test_training_trust::test_no_matcher_returns_a_score_that_is_not_a_number"),
    ),
    "validation without boxes": (
        "held-out images have boxes, or one sentence",
        ("test_training_trust::test_validation_draws_images_with_located_phrases",
         "test_training_trust::test_training_on_phrases_of_which_few_have_boxes_succeeds"),
    ),
    "flipped images keep \"left\"": (
        "sides are swapped where they are understood, otherwise the image is not mirrored",
        ("test_training_trust::test_what_is_not_understood_is_not_mirrored",
         "test_training_trust::"
         "test_an_image_with_a_phrase_that_cannot_be_mirrored_is_never_mirrored"),
    ),
    "the library reseeds random generators": (
        "generators of the user stay as they are",
        ("test_training_trust::test_the_generators_of_the_user_stay_as_they_are",),
    ),
    "probabilities go stale as the index grows": (
        "cosine is calibrated again at twice the images",
        ("test_training_trust::test_cosine_is_calibrated_again_when_the_index_has_doubled",),
    ),
    "recall is tuned on the wrong queries": (
        "tuned on phrases after every change, on class names only with a warning",
        ("test_training_trust::test_compacting_tunes_on_phrases",),
    ),
    "an empty collection crashes": (
        "an empty index can be reindexed, queried and filled again",
        ("test_training_trust::test_an_empty_index_can_be_reindexed",),
    ),
    "advice that was just followed": (
        "pseudo-queries are not recommended after pseudo-queries",
        ("test_training_trust::test_pseudo_queries_are_not_recommended_after_pseudo_queries",),
    ),
    "arguments in the wrong order": (
        "the message says which comes first, exit code 2",
        ("test_training_trust::test_arguments_in_the_wrong_order_are_named",),
    ),
    "a damaged model file breaks every query": (
        "the next best matcher answers, with a warning; verify finds and moves it aside",
        ("test_verify_files::test_a_damaged_matcher_is_replaced_by_the_next_best_with_a_warning",
         "test_verify_files::test_every_flipped_bit_of_the_matcher_is_found"),
    ),
    "strange files in the index": (
        "noted and kept",
        ("test_verify_files::test_other_files_in_the_folder_are_noted_and_kept",),
    ),
    # Pictures
    "wide-gamut colors are shown as others": (
        "embedded profiles are applied, bad ones ignored",
        ("test_colors_and_range::test_the_shared_cases_come_out_as_described",
         "test_colors_and_range::test_a_profile_is_applied_in_every_format_and_mode"),
    ),
    "a transparent color is opaque": (
        "tRNS is alpha, blended with white",
        ("test_colors_and_range::test_a_transparent_color_is_blended_with_white",),
    ),
    "16-bit and 32-bit images come out black or white": (
        "their real range is used, with a note where it is a guess",
        ("test_colors_and_range::test_16_bit_gray_uses_its_real_range",
         "test_colors_and_range::test_floats_use_their_real_range"),
    ),
    "a rotation written later is missed": (
        "found by build --check-content; --force embeds again",
        ("test_incremental::test_an_orientation_changed_later_is_found_by_checking_the_content",
         "test_incremental::test_forcing_embeds_again_what_is_named_and_nothing_else"),
    ),
    "half of a photograph is gray": (
        "indexed, and reported with the share that is missing",
        ("test_repaired_images::test_a_jpeg_that_was_cut_and_closed_names_what_is_missing",
         "test_repaired_images::test_what_was_repaired_is_indexed_and_reported"),
    ),
    "saving a picture replaces the photograph": (
        "refused",
        ("test_rendering::test_a_picture_never_replaces_its_own_source",),
    ),
    "captions in other scripts are boxes": (
        "drawn with an installed font, or named",
        ("test_rendering::test_phrases_in_other_scripts_can_be_read_in_a_picture",
         "test_rendering::test_characters_that_no_font_has_are_named"),
    ),
    "a picture larger than its format holds": (
        "one sentence",
        ("test_rendering::test_a_size_that_the_format_cannot_hold_is_one_sentence",),
    ),
    # Files and folders
    "one unreadable folder ends the build": (
        "reported and skipped",
        ("test_sources::test_an_unreadable_folder_is_reported_and_skipped",),
    ),
    "thumbnails of the system are indexed": (
        "folders of machines are left out and reported; globs and ignore files decide",
        ("test_sources::test_folders_of_machines_and_hidden_ones_are_left_out_and_reported",
         "test_sources::test_globs_and_ignore_files_leave_out_what_they_name"),
    ),
    "removed images come back": (
        "they stay removed until they are asked back",
        ("test_sources::test_what_was_removed_stays_removed_until_it_is_asked_back",),
    ),
    "the index indexes itself": (
        "its folder is never searched",
        ("test_sources::test_the_folder_of_an_index_is_never_searched",),
    ),
    "two collections in one index": (
        "two folders of one name do not share an index; places without sense are one sentence",
        ("test_sources::test_two_folders_of_one_name_do_not_share_an_index",
         "test_sources::test_places_that_make_no_sense_are_one_sentence"),
    ),
    "linked folders are ignored, or counted twice": (
        "named and followed if asked, each photograph once",
        ("test_sources::test_linked_folders_are_named_and_followed_if_asked",
         "test_sources::test_a_folder_and_a_link_to_it_give_each_photograph_once"),
    ),
    "brackets in a folder's name": (
        "patterns below it work",
        ("test_sources::test_patterns_work_below_folders_with_brackets",),
    ),
    "a list with NUL, BOM or CRLF": (
        "read as the tools write it",
        ("test_sources::test_lists_are_read_as_tools_write_them",
         "test_sources::test_the_list_of_the_shared_cases_is_read_or_refused_in_a_sentence"),
    ),
    "accents in the other Unicode form": (
        "they match",
        ("test_sources::test_accents_match_in_both_unicode_forms",),
    ),
    "HEIC and camera raw vanish silently": (
        "counted by reason; a folder of unusable files is no success",
        ("test_sources::test_files_with_an_images_name_are_counted_by_reason",
         "test_sources::test_a_folder_of_unusable_files_is_no_success"),
    ),
    "hours without a line in the log": (
        "a line every few seconds",
        ("test_sources::test_progress_reaches_a_log",),
    ),
    "impossible options": (
        "one sentence",
        ("test_named_models::test_impossible_options_are_one_sentence",
         "test_rendering::test_a_nested_list_of_hits_is_one_sentence"),
    ),
    # Models
    "the recorded preset is wrong": (
        "it is recorded only where its models were used",
        ("test_named_models::test_the_preset_is_recorded_only_where_its_models_were_used",),
    ),
    "other models than the index's are ignored": (
        "refused, also when nothing is new",
        ("test_named_models::test_other_models_are_refused_though_nothing_is_new",),
    ),
    "renamed weights are other weights": (
        "the same bytes are the same model",
        ("test_named_models::test_models_that_were_renamed_are_the_same",
         "test_named_models::test_weights_that_moved_are_recorded_at_their_new_place"),
    ),
    "a phrase in another language finds anything": (
        "said, with a low probability",
        ("test_named_models::test_a_phrase_that_the_encoder_cannot_read_is_improbable_and_said",),
    ),
    "a device that is not there": (
        "one sentence",
        ("test_named_models::test_devices_that_are_not_there_are_one_sentence",),
    ),
    # Hits, output and long-lived processes
    "hits of deleted files": (
        "marked missing, and skipped if asked",
        ("test_long_lived::test_hits_of_deleted_files_are_marked_and_can_be_skipped",),
    ),
    "too many open files": (
        "an error of its own, not damage",
        ("test_long_lived::test_too_many_open_files_are_no_damage",),
    ),
    "closed stdout, and pipes that cannot encode": (
        "escaped, and the exit codes of a Unix tool",
        ("test_stdio::test_names_that_an_encoding_lacks_are_escaped",
         "test_stdio::test_a_reader_that_leaves_ends_a_command_as_it_ends_cat"),
    ),
    "very long names": (
        "one sentence",
        ("test_stdio::test_names_that_are_too_long_are_one_sentence",),
    ),
}  # fmt: skip


def names_in(module: str) -> set[str]:
    path = TESTS / f"{module}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_shown_by_a_test(kind):
    answer, shown_by = KINDS[kind]
    assert answer and shown_by
    for name in shown_by:
        module, test = name.split("::")
        assert test in names_in(module), name
