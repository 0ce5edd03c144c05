"""The real model classes, tiny and with random weights, through the same folders as published ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from annotate.scripted import write_dataset
from annotate.tiny_models import save_captioner, save_detector, save_segmenter
from annotate.tiny_nouns import save_nouns

from eclipse.annotate.captioner import Blip2Captioner
from eclipse.annotate.detector import GroundingDino, Prompt
from eclipse.annotate.models import Models
from eclipse.annotate.pipeline import annotate_dataset
from eclipse.annotate.segmenter import SamSegmenter
from eclipse.config.subjects import AnnotateParams, AnnotatorParams, FilterParams
from eclipse.data.manifest import open_split
from eclipse.data.subjects import subjects_of
from eclipse.errors import ConfigError
from eclipse.files import tree_digest


def pictures(count: int, height: int = 40, width: int = 40) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory):
    return save_detector(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def segmenter_folder(tmp_path_factory):
    return save_segmenter(tmp_path_factory.mktemp("segmenter"))


@pytest.fixture(scope="module", params=["opt", "t5"])
def captioner_folder(request, tmp_path_factory):
    return save_captioner(tmp_path_factory.mktemp(request.param), request.param)


def test_captions_depend_on_the_picture_and_not_on_the_batch(captioner_folder):
    captioner = Blip2Captioner(str(captioner_folder))
    images = pictures(4)
    captions = captioner.captions(images)
    assert len(set(captions)) > 1
    assert captions == [captioner.captions([image])[0] for image in images]
    assert all("<" not in caption and caption == " ".join(caption.split()) for caption in captions)


def test_captions_are_those_of_the_models_own_unprompted_call(captioner_folder):
    captioner = Blip2Captioner(str(captioner_folder))
    images = pictures(3)
    processor, model = captioner._processor, captioner._model
    tokens = model.generate(
        pixel_values=processor.image_processor(images, return_tensors="pt")["pixel_values"], max_new_tokens=40
    )
    texts = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    assert captioner.captions(images) == [" ".join(text.split()) for text in texts]


def test_a_processor_that_does_not_say_its_number_of_queries_gives_the_same_captions(captioner_folder):
    captions = Blip2Captioner(str(captioner_folder)).captions(pictures(3))
    path = captioner_folder / "processor_config.json"
    kept = path.read_text()
    config = json.loads(kept)
    assert config.pop("num_query_tokens") == 3
    path.write_text(json.dumps(config))
    try:
        assert Blip2Captioner(str(captioner_folder)).captions(pictures(3)) == captions
    finally:
        path.write_text(kept)


def test_proposals_are_all_queries_with_the_scores_of_each_phrase(detector_folder):
    detector = GroundingDino(str(detector_folder))
    [image] = pictures(1, 40, 60)
    [found] = detector.detect([image], [["dog", "fire hydrant"]])
    inputs = detector._processor(images=image, text="dog. fire hydrant.", return_tensors="pt")
    assert inputs["input_ids"].shape[1] == 7  # [CLS] dog . fire hydrant . [SEP]
    with torch.no_grad():
        outputs = detector._model(**inputs)
    probabilities = torch.sigmoid(outputs.logits[0]).numpy()
    cx, cy, w, h = outputs.pred_boxes[0].numpy().T
    boxes = np.stack([(cx - w / 2) * 60, (cy - h / 2) * 40, (cx + w / 2) * 60, (cy + h / 2) * 40], 1)
    assert found.boxes.shape == (7, 4)
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-4)
    np.testing.assert_allclose(found.scores, probabilities.max(1), atol=1e-6)
    np.testing.assert_allclose(found.words[:, 0], probabilities[:, 1], atol=1e-6)
    np.testing.assert_allclose(found.words[:, 1], probabilities[:, 3:5].max(1), atol=1e-6)
    assert np.ptp(found.words) > 0.01


def test_proposals_do_not_depend_on_the_batch(detector_folder):
    detector = GroundingDino(str(detector_folder))
    images = pictures(2)
    phrases = [["dog"], ["cat", "fire hydrant", "hatboard"]]
    together = detector.detect(images, phrases)
    for one, image, own in zip(together, images, phrases, strict=True):
        [alone] = detector.detect([image], [own])
        np.testing.assert_allclose(one.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(one.words, alone.words, atol=1e-4)
        assert one.words.shape == (7, len(own))


def test_phrases_beyond_the_context_score_nothing(detector_folder):
    detector = GroundingDino(str(detector_folder))
    [found] = detector.detect(pictures(1), [["dog cat hat"] * 8])  # 4 tokens each, 24 fit
    assert found.words[:, :5].all() and not found.words[:, 6:].any()


def test_a_prompt_takes_the_best_token_of_each_phrase():
    prompt = Prompt(["St. Bernard", "hatboard"])
    assert prompt.text == "st bernard. hatboard."
    #          CLS     st      bernard  .         hat       ##board   .         SEP
    offsets = [(0, 0), (0, 2), (3, 10), (10, 11), (12, 15), (15, 20), (20, 21), (0, 0)]
    per_token = np.array([[0.9, 0.1, 0.3, 0.9, 0.2, 0.6, 0.9, 0.9]], np.float32)
    np.testing.assert_allclose(prompt.scores(per_token, offsets), [[0.3, 0.6]])


def test_masks_are_of_the_pictures_size_and_follow_the_box(segmenter_folder):
    segmenter = SamSegmenter(str(segmenter_folder))
    [image] = pictures(1, 30, 50)
    boxes = [(0, 0, 10, 10), (20, 5, 45, 28), (3, 20, 9, 30)]
    masks = segmenter.masks(image, boxes)
    assert masks.shape == (3, 30, 50) and masks.dtype == np.uint8 and set(np.unique(masks)) <= {0, 1}
    assert len({mask.tobytes() for mask in masks}) > 1
    for box, mask in zip(boxes, masks, strict=True):
        assert np.mean(segmenter.masks(image, [box])[0] != mask) < 0.01


def test_masks_are_the_models_single_ones_brought_back_to_the_picture(segmenter_folder):
    segmenter = SamSegmenter(str(segmenter_folder))
    [image] = pictures(1, 32, 64)
    inputs = segmenter._processor.image_processor(image, return_tensors="pt")
    with torch.no_grad():
        box = torch.tensor([[[10.0, 4.0, 30.0, 20.0]]])  # 64 is the model's own size: nothing is scaled
        logits = segmenter._model(inputs["pixel_values"], input_boxes=box, multimask_output=False).pred_masks[0, 0]
    large = torch.nn.functional.interpolate(logits[None], (64, 64), mode="bilinear")[0, 0]
    [mask] = segmenter.masks(image, [(10, 4, 30, 20)])
    assert np.mean(mask != (large[:32] > 0).numpy()) < 0.01


@pytest.mark.parametrize(("field", "kind"), [("captioner", Blip2Captioner), ("detector", GroundingDino)])
def test_a_folder_without_a_model_is_named(tmp_path, field, kind):
    with pytest.raises(ConfigError, match=rf"annotate\.models\.{field}: {tmp_path} cannot be loaded"):
        kind(str(tmp_path))


def test_weights_that_are_no_safetensors_are_refused(tmp_path, segmenter_folder):
    for path in segmenter_folder.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"annotate\.models\.segmenter: .* cannot be loaded"):
        SamSegmenter(str(tmp_path))


def test_weights_of_a_part_of_the_model_are_refused(tmp_path, segmenter_folder):
    from safetensors.torch import load_file, save_file

    for path in segmenter_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in state.items() if "mask_decoder" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"annotate\.models\.segmenter: .* has no weights for mask_decoder"):
        SamSegmenter(str(tmp_path))


def test_the_whole_pipeline_with_real_models(tmp_path, detector_folder, segmenter_folder):
    write_dataset(
        tmp_path / "in", {"train": ["A dog and a cat", "the fire hydrant", "a hat"], "val_seen": ["two dogs"]}
    )
    everything = FilterParams(
        box_threshold=0, text_threshold=0, boxes=(1, 99), identical=99, logit=0, ratio=(0, 99), mask_share=0, white=1
    )
    names = AnnotatorParams(
        captioner=None,
        nouns=str(save_nouns(tmp_path / "nouns")),
        detector=str(detector_folder),
        segmenter=str(segmenter_folder),
        batch_size=2,
    )
    params = AnnotateParams(by=("models",), filters=everything, models=names)
    summary = annotate_dataset(params, tmp_path / "in", tmp_path / "out")
    assert summary["boxes"]["in"] == 7 * 4
    kept = [record for split in ("train", "val_seen") for record in open_split(tmp_path / "out", split)]
    assert kept and sum(len(subjects_of(record)) for record in kept) == summary["boxes"]["kept"]
    assert {subject.word for record in kept for subject, _ in subjects_of(record)} <= {
        "dog", "cat", "fire hydrant", "hat", "dogs",
    }  # fmt: skip
    annotate_dataset(params, tmp_path / "in", tmp_path / "again", models=Models.load(names))
    assert tree_digest(tmp_path / "again") == tree_digest(tmp_path / "out")
