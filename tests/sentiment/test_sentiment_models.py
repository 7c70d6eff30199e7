"""Sentiment models: range, order, and that a text's score does not depend on its neighbours."""

from __future__ import annotations

import gzip
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from octopus.core.errors import ConfigError
from resources.sentiment.base import SentimentModelError
from resources.sentiment.factory import sentiment_model
from resources.sentiment.finbert import FinBertSentiment

ROOT = Path(__file__).parents[2]
WORDS = ["profit", "loss", "rises", "falls", "the", "company", "shares", "strong", "weak", "and", "record", "of"]


def test_the_lexicon_knows_good_from_bad():
    model = sentiment_model("vader")
    assert model.name == f"vader-{version('vaderSentiment')}"
    good, bad, nothing, empty = model.score(
        ["Great results, excellent profit!", "Terrible losses and fraud.", "The meeting is on Tuesday.", ""]
    )
    assert good > 0.5
    assert bad < -0.5
    assert nothing == empty == 0.0
    assert model.score([]).shape == (0,)


def test_the_lexicon_on_labelled_sentences(test_data: Path):
    """Sentences of financial news: those called positive score higher than those called negative."""
    with gzip.open(test_data / "phrasebank.csv.gz") as file:
        bank = pl.read_csv(file.read())
    text = next(name for name in ("sentence", "text") if name in bank.columns)
    scores = sentiment_model("vader").score(bank[text].to_list())
    assert np.abs(scores).max() <= 1
    mean = dict(bank.with_columns(score=pl.Series(scores)).group_by("label").agg(pl.col("score").mean()).rows())
    assert mean["positive"] > mean["neutral"] > mean["negative"]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="use finance, vader or finbert"):
        sentiment_model("crystal ball")


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = (
        "import sys; from resources.sentiment.factory import sentiment_model as m; m('finbert'); m().score(['good']);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_missing_extra_is_one_clear_error():
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from resources.sentiment.finbert import FinBertSentiment\n"
        "try: FinBertSentiment('x').score(['good'])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert said.startswith("SentimentModelError sentiment model x: the package ")
    assert "make nlp" in said


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier of random weights and a small vocabulary, saved as the real ones are."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, ".", ",", "##s"]))
    transformers.BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(folder)
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + 8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5,
        id2label={0: "Negative", 1: "neutral", 2: "positive"}, label2id={"Negative": 0, "neutral": 1, "positive": 2},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


TEXTS = [
    "profit rises",
    "the company falls",
    "",
    "strong shares and record profit of the company rises",
    "weak " * 200,
    "loss",
    "profit rises",
]


@pytest.mark.nlp
def test_a_classifier_scores_by_its_labels(saved):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    scores = sentiment_model("finbert", saved).score(TEXTS)
    assert scores.shape == (7,)
    assert scores[2] == 0.0
    assert scores[0] == scores[6]
    assert len(set(scores.tolist())) == 6
    tokens = AutoTokenizer.from_pretrained(saved)(TEXTS[3], return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained(saved)(**tokens).logits
    shares = torch.softmax(logits[0].double(), -1)
    assert scores[3] == pytest.approx(float(shares[2] - shares[0]), abs=1e-4)


@pytest.mark.nlp
def test_a_score_does_not_depend_on_the_texts_beside_it(saved):
    together = FinBertSentiment(saved, batch_size=32).score(TEXTS)
    pairs = FinBertSentiment(saved, batch_size=2).score(TEXTS)
    alone = np.array([FinBertSentiment(saved).score([text])[0] for text in TEXTS])
    assert (together == pairs).all()
    assert (together == alone).all()


@pytest.mark.nlp
def test_the_name_changes_with_the_weights(saved, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    changed = tmp_path / saved.name
    model = AutoModelForSequenceClassification.from_pretrained(saved)
    with torch.no_grad():
        model.classifier.bias += 1
    model.save_pretrained(changed)
    AutoTokenizer.from_pretrained(saved).save_pretrained(changed)
    assert FinBertSentiment(saved).name == FinBertSentiment(saved).name
    assert FinBertSentiment(saved).name.startswith(f"{saved.name}-")
    assert FinBertSentiment(changed).name != FinBertSentiment(saved).name


@pytest.mark.nlp
def test_a_classifier_of_something_else_is_refused(saved, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(saved)
    model.config.id2label = {0: "cat", 1: "dog", 2: "bird"}
    model.config.label2id = {"cat": 0, "dog": 1, "bird": 2}
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(saved).save_pretrained(tmp_path)
    with pytest.raises(SentimentModelError, match="its labels are bird, cat, dog"):
        FinBertSentiment(tmp_path).score(["profit"])


@pytest.mark.nlp
def test_a_model_that_is_not_there_is_one_clear_error(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with pytest.raises(SentimentModelError, match="name a folder with a saved model") as caught:
        FinBertSentiment(tmp_path / "nowhere").score(["profit"])
    assert "\n" not in str(caught.value)
