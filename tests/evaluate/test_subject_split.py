import numpy as np
import pytest
import torch
from made_store import HASH, made_store

from eclipse.config.params import EvaluateParams
from eclipse.embeddings.store import Store
from eclipse.errors import DataError
from eclipse.evaluate.generate import prompt_seeds
from eclipse.evaluate.judge import Judge
from eclipse.evaluate.subject_split import Prompts, interleaved, picture_scores, predict_prompts
from eclipse.models.prior import EclipsePrior, seeded_noise

DIM = 16
SPLIT = "test_held_out"
SIZES = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "store"
    shards = {SPLIT: [5, 300], "val_seen": [4]}  # more than one chunk of 256, over a shard's end
    made = made_store(folder, shards, state_dim=DIM, dim=DIM, subjects=True)
    return Store.open(folder, SPLIT, expect_weights_hash=HASH), made[SPLIT]


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    model = EclipsePrior(DIM, DIM, additional_embeddings=4, **SIZES)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def one_by_one(store, prior, index, control):
    """The prior called directly for one prompt whose nouns' rows are exchanged by hand."""
    batch = store.gather(np.array([index]))
    states = batch.text_states.clone()
    for embed, start, length in zip(batch.subjects.embeds, batch.subjects.start, batch.subjects.length, strict=True):
        for row in range(int(start), int(start + length)):
            states[row] = embed
    name = store.table()["id"][index].as_py()
    noise = seeded_noise(prompt_seeds(SPLIT, [name], "prior", 0), DIM)
    with torch.no_grad():
        return prior(noise, batch.prompt_embeds, states, batch.lengths, control_embeds=control(batch)).numpy()[0]


@pytest.mark.parametrize("edges", [False, True])
def test_predictions_are_the_priors_own_on_captions_interleaved_by_hand(source, prior, edges):
    store, _ = source
    prompts = Prompts.of(store)
    predicted, seconds = predict_prompts("lambda-0.2", prior, store, prompts, EvaluateParams(), edges=edges)
    assert predicted.shape == (305, DIM) and seconds > 0

    def control(batch):
        return batch.control_embeds if edges else store.nothing[None]

    for index in (0, 4, 5, 255, 256, 304):
        assert predicted[index] == pytest.approx(one_by_one(store, prior, index, control), abs=2e-5)


def test_subjects_edges_and_words_all_matter(source, prior):
    store, _ = source
    prompts = Prompts.of(store)
    with_, without = (
        predict_prompts("lambda-0.2", prior, store, prompts, EvaluateParams(), edges=edges)[0]
        for edges in (True, False)
    )
    assert np.abs(with_ - without).max(1).min() > 1e-4
    batch = store.gather(np.arange(4))
    asked, control = interleaved(store.nothing)(batch)
    assert torch.equal(control, store.nothing.expand(4, -1)) and torch.equal(asked.prompt_embeds, batch.prompt_embeds)
    changed = (asked.text_states != batch.text_states).any(1)
    assert int(changed.sum()) == int(batch.subjects.length.sum())


def test_references_by_hand(source):
    store, made = source
    prompts = Prompts.of(store)
    torch.manual_seed(1)
    words = EclipsePrior(DIM, DIM, **SIZES).eval()
    truth, own, mean, text = (
        predict_prompts(point, model, store, prompts, EvaluateParams())[0]
        for point, model in (("truth", None), ("subject", None), ("mean", words), ("eclipse-0.2", words))
    )
    assert truth == pytest.approx(np.concatenate([part.image_embeds.numpy() for part in made]), abs=1e-2)
    embeds, counts = made[0].subjects.embeds.numpy(), made[0].subjects.counts
    for i, (start, n) in enumerate(zip(np.cumsum(counts) - counts, counts, strict=True)):
        assert own[i] == pytest.approx(embeds[start : start + n].mean(0), abs=1e-2)  # stored as float16
    assert mean == pytest.approx((own + text) / 2, abs=1e-6)
    assert prompts.n_subjects.tolist() == np.concatenate([part.subjects.counts for part in made]).tolist()


def test_data_without_subjects_is_refused(tmp_path):
    made_store(tmp_path / "store", {SPLIT: [3]}, state_dim=DIM, dim=DIM)
    with pytest.raises(DataError, match="holds no subjects"):
        Prompts.of(Store.open(tmp_path / "store", SPLIT))


class FirstPixel:
    """A CLIP whose embedding of a picture stands in its first pixels."""

    def encode_image(self, images):
        return torch.as_tensor(images[:, 0, :2, 0]).float()


def test_clip_figures_of_the_first_prompts_by_hand(source):
    full = Prompts.of(source[0])
    targets = type(full.targets)(np.zeros((3, 2), np.float32), np.array([[1, 0], [1, 1], [9, 9]], np.float32))
    subjects = np.array([[0, 2], [3, 0], [1, 1], [5, 5]], np.float32)
    prompts = Prompts(SPLIT, ["a", "b", "c"], ["a", "b", "c"], targets, subjects, np.array([0, 1, 1, 2]))
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[:, 0, :2, 0] = [[0, 50], [60, 60]]
    found = picture_scores(Judge(FirstPixel(), None), prompts, images, images, [{}, {}])
    assert set(found) == {"clip_t", "clip_i", "edge_f1"}
    assert found["clip_t"] == pytest.approx([0, 1])
    assert found["clip_i"] == pytest.approx([1, (np.sqrt(0.5) + 1) / 2])
