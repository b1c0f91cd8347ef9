"""Scored text: what is scored, in what batches, and whether two texts overlap."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.text import as_scored, cut_windows, overlap
from pim.llm_workloads.tokenizers import load_tokenizer


@dataclass(frozen=True)
class Letters:
    """A letter, a token: a is 2."""

    bos_id: int | None = 1
    eos_id: int | None = None
    vocab_size: int = 28

    def encode(self, text):
        return [ord(c) - 95 for c in text]

    def decode(self, ids):
        return "".join(chr(i + 95) for i in ids)


LETTERS = Letters()
WORD = st.text("abcdefgh", max_size=30)


def texts(rows):
    """Rows as strings, BOS as ^."""
    return ["".join("^" if i == 1 else chr(i + 95) for i in row) for row in rows]


def test_documents_are_stripped_cut_and_scored_alone():
    text = "\nabc\n<|endoftext|> \n <|endoftext|>abcdefgh<|endoftext|>"
    scored = as_scored(text, LETTERS, context=6)
    assert texts(scored.rows()) == ["^abc", "^abcde"]
    assert scored.scored_tokens().tolist() == [3, 5]
    assert scored.documents.tolist() == [0, 1] and scored.count == 2
    assert scored.valid_tokens().sum() == 10
    assert scored.protocol.startswith("documents") and "BOS" in scored.protocol and "6 tokens" in scored.protocol
    assert scored.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_documents_without_a_bos_leave_their_first_token_unscored():
    scored = as_scored("abc<|endoftext|>de<|endoftext|>f", Letters(bos_id=None), context=9)
    assert texts(scored.rows()) == ["abc", "de"]
    assert scored.scored_tokens().tolist() == [2, 1] and "first token unscored" in scored.protocol


def test_windows_are_full_or_the_whole_text():
    assert texts(as_scored("abcdefgh", LETTERS, context=4).rows()) == ["^abc", "^def"]
    assert texts(as_scored("abcdefgh", Letters(bos_id=None), context=4).rows()) == ["abcd", "efgh"]
    assert texts(as_scored("ab", LETTERS, context=4).rows()) == ["^ab"]
    assert as_scored("ab", LETTERS, context=4).protocol.startswith("windows")


def test_a_budget_takes_exactly_so_many_tokens_from_the_beginning():
    scored = as_scored("abcd<|endoftext|>efgh<|endoftext|>ab", LETTERS, context=9, max_tokens=6)
    assert texts(scored.rows()) == ["^abcd", "^ef"] and "at most 6 scored" in scored.protocol


def test_a_text_that_is_cut_already_stays_as_it_is():
    scored = as_scored("abc", LETTERS, context=4)
    assert as_scored(scored, LETTERS, context=2) is scored


@given(documents=st.lists(WORD, max_size=8), context=st.integers(2, 12), budget=st.integers(1, 60))
def test_every_document_is_scored_up_to_the_context_and_the_budget(documents, context, budget):
    text = "<|endoftext|>".join([*documents, "ab"])
    whole = as_scored(text, LETTERS, context=context)
    words = [word for word in [*documents, "ab"] if word]
    if "<|endoftext|>" in text:
        assert texts(whole.rows()) == ["^" + word[: context - 1] for word in words]
    part = as_scored(text, LETTERS, context=context, max_tokens=budget)
    assert part.scored_tokens().sum() == min(budget, whole.scored_tokens().sum())
    joined = ["".join(texts(t.rows())) for t in (part, whole)]
    assert joined[1].startswith(joined[0])


@given(
    documents=st.lists(WORD.filter(bool), min_size=1, max_size=40),
    context=st.integers(2, 20),
    tokens=st.integers(1, 120),
)
def test_batches_score_every_token_once_in_few_shapes(documents, context, tokens):
    scored = as_scored("<|endoftext|>".join(["", *documents]), LETTERS, context=context)
    losses = np.full(scored.tokens.shape, -1)
    counts = np.zeros(scored.count, int)
    shapes = set()
    for batch in scored.batches(tokens):
        shapes.add(batch.tokens.shape)
        assert batch.tokens.shape[1] >= 2 and batch.scored.shape == (len(batch.tokens), batch.tokens.shape[1] - 1)
        assert batch.documents[batch.kept].tolist() == batch.index.tolist()
        counts[batch.index] += batch.scored.sum(axis=1)[batch.kept].astype(int)
        assert batch.scored.sum() == batch.scored[batch.kept].sum()
        for row, index in zip(batch.tokens[batch.kept], batch.index, strict=True):
            assert (losses[index] == -1).all()
            losses[index, : len(row)] = row
    assert counts.tolist() == scored.scored_tokens().tolist()
    assert (losses == scored.tokens)[scored.valid_tokens()].all()
    assert len(shapes) <= 4 and all(rows == 1 or rows * width <= max(tokens, 4 * width) for rows, width in shapes)


def test_golden_token_counts(shared):
    tokenizer = load_tokenizer(shared / "data" / "stories260K")
    text = (shared / "data" / "text" / "tinystories_dev.txt").read_text()
    assert [as_scored(text, tokenizer, context=c).scored_tokens().sum() for c in (256, 512)] == [27807, 42425]
    wiki = (shared / "data" / "text" / "wikitext2_valid.txt").read_text()[:20000]
    assert cut_windows(wiki, tokenizer, context=256).scored_tokens().sum() == 12750


@pytest.mark.parametrize("text", ["", " <|endoftext|>\n", "<|endoftext|>"])
def test_a_text_without_tokens(text):
    with pytest.raises(WorkloadError, match=r"\(\d+ characters\) has no token to score"):
        as_scored(text, LETTERS, context=4)


def test_a_token_that_the_model_does_not_know():
    with pytest.raises(WorkloadError, match=r"sequence 1 .* id 27 \('z'\), but the model's vocabulary has 27"):
        as_scored("abc<|endoftext|>xyz", Letters(vocab_size=27), context=4)
    with pytest.raises(WorkloadError, match="token id 30"):
        as_scored("abc", Letters(bos_id=30), context=4)


@pytest.mark.parametrize(("sizes", "message"), [({"context": 1}, "context of 1"), ({"max_tokens": 0}, "budget of 0")])
def test_sizes_that_leave_nothing(sizes, message):
    with pytest.raises(WorkloadError, match=message):
        as_scored("abc", LETTERS, **{"context": 4, **sizes})


def story(seed, length):
    return "".join(chr(97 + i) for i in np.random.default_rng(seed).integers(0, 26, length))


def scored_stories(*stories):
    return as_scored("<|endoftext|>".join(["", *stories]), LETTERS, context=256)


def test_texts_of_their_own_do_not_overlap():
    assert overlap(scored_stories(story(0, 90), story(1, 20)), scored_stories(story(2, 90), story(3, 20))) is None


def test_a_shared_document_is_found():
    found = overlap(scored_stories(story(0, 90), story(1, 20)), scored_stories(story(2, 9), story(1, 20)))
    assert found is not None and "sequence 1 of the scored text" in found


@pytest.mark.parametrize(("length", "shared_run"), [(32, True), (31, False)])
def test_a_shared_run_is_found_from_32_tokens_on(length, shared_run):
    run = story(7, length)
    found = overlap(scored_stories(story(0, 40) + run), scored_stories(story(1, 50) + run + story(2, 10)))
    assert (found is not None) == shared_run
    assert found is None or "from its 51th on" in found


def test_a_shared_greeting_is_no_overlap():
    assert overlap(scored_stories("hello", story(0, 40)), scored_stories("hello", story(1, 40))) is None
