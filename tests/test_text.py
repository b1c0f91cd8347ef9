"""Scored text: what is scored, in what batches, and whether two texts overlap."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.overlap import overlap
from pim.llm_workloads.text import as_scored, cut_windows
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
    assert scored.scored_tokens().tolist() == [2, 1] and "first token of each unscored" in scored.protocol


def test_windows_are_full_or_the_whole_text():
    assert texts(as_scored("abcdefgh", LETTERS, context=4).rows()) == ["^abc", "^def"]
    assert texts(as_scored("abcdefgh", Letters(bos_id=None), context=4).rows()) == ["abcd", "efgh"]
    assert texts(as_scored("ab", LETTERS, context=4).rows()) == ["^ab"]
    assert as_scored("ab", LETTERS, context=4).protocol.startswith("windows")


def scored_letters(scored):
    """Of each row, its context in lower case and what is scored of it in upper case."""
    return [text[:first] + text[first:].upper() for text, first in zip(texts(scored.rows()), scored.first, strict=True)]


def test_overlapping_windows_score_what_no_window_before_has():
    scored = as_scored("abcdefghij", LETTERS, context=5, stride=2)
    assert scored_letters(scored) == ["^ABCD", "^cdEF", "^efGH", "^ghIJ"]
    assert scored.source.tolist() == [0, 1, 2, 3] and "every 2" in scored.protocol
    # The rule of https://huggingface.co/docs/transformers/perplexity: the last window ends with the text.
    bare = as_scored("abcdefgh", Letters(bos_id=None), context=4, stride=3)
    assert scored_letters(bare) == ["aBCD", "dEFG", "gH"]


def test_documents_with_a_stride_are_scored_to_their_end():
    scored = as_scored("abcdefg<|endoftext|> <|endoftext|>ab", LETTERS, context=4, stride=2)
    assert scored_letters(scored) == ["^ABC", "^cDE", "^eFG", "^AB"]
    assert scored.source.tolist() == [0, 0, 0, 1] and scored.documents.tolist() == [0, 1, 2, 3]
    assert as_scored("abcdefg<|endoftext|>ab", LETTERS, context=4).source.tolist() == [0, 1]


def test_the_budget_counts_scored_tokens_alone():
    scored = as_scored("abcdefghij", LETTERS, context=5, stride=2, max_tokens=5)
    assert scored_letters(scored) == ["^ABCD", "^cdE"] and scored.scored_tokens().tolist() == [4, 1]


@given(word=WORD.filter(bool), context=st.integers(2, 12), stride=st.integers(1, 14), bos=st.sampled_from([1, None]))
def test_overlapping_windows_score_every_token_once_with_full_context(word, context, stride, bos):
    letters = Letters(bos_id=bos)
    front = 0 if bos is None else 1
    ids = np.array(letters.encode(word))
    if len(ids) + front < 2:
        return
    if stride > context - front:
        with pytest.raises(WorkloadError, match=f"give at most {context - front}"):
            as_scored(word, letters, context=context, stride=stride)
        return
    scored = as_scored(word, letters, context=context, stride=stride)
    if stride == context - front:
        whole = as_scored(word, letters, context=context)
        assert texts(scored.rows()) == texts(whole.rows()) and scored.first.tolist() == whole.first.tolist()
        return
    found = []
    for row, first in zip(scored.rows(), scored.first, strict=True):
        begin = len(found) + 1 - front  # without a BOS, the first of all is not scored
        assert row[first:].tolist() == ids[begin : begin + len(row) - first].tolist()
        behind = row[front:first].tolist()
        assert behind == ids[begin - len(behind) : begin].tolist()  # with what stands before them
        assert not found or len(behind) >= context - front - stride
        found += row[first:].tolist()
    assert found == ids[1 - front :].tolist()


def test_the_protocol_says_how_windows_follow_each_other_and_what_is_scored():
    bare = Letters(bos_id=None)
    told = lambda text, letters, **sizes: as_scored(text, letters, context=4, **sizes).protocol
    blocks = "abcdefg<|endoftext|>ab"
    assert "4 tokens each, no overlap, BOS in front" in told("abcdefgh", LETTERS, stride=3)
    assert "4 tokens each, no overlap, BOS in front" in told(blocks, LETTERS, stride=3)
    assert "no overlap, the first token of each unscored" in told(blocks, bare, stride=4)
    assert "every 2" in told(blocks, LETTERS, stride=2) and "first token of all unscored" in told(
        "abcdef", bare, stride=2
    )


def test_a_window_that_does_not_move_on():
    with pytest.raises(WorkloadError, match="stride of 0"):
        as_scored("abc", LETTERS, context=4, stride=0)


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
    stride=st.none() | st.integers(1, 20),
    tokens=st.integers(1, 120),
)
def test_batches_score_every_token_once_in_few_shapes(documents, context, stride, tokens):
    stride = None if stride is None else min(stride, context - 1)
    scored = as_scored("<|endoftext|>".join(["", *documents]), LETTERS, context=context, stride=stride)
    right = scored.is_scored()[:, 1:]
    losses = np.full(scored.tokens.shape, -1)
    counts = np.zeros(scored.count, int)
    shapes = set()
    for batch in scored.batches(tokens):
        shapes.add(batch.tokens.shape)
        assert batch.tokens.shape[1] >= 2 and batch.scored.shape == (len(batch.tokens), batch.tokens.shape[1] - 1)
        assert batch.documents[batch.kept].tolist() == batch.index.tolist()
        counts[batch.index] += batch.scored.sum(axis=1)[batch.kept].astype(int)
        assert batch.scored.sum() == batch.scored[batch.kept].sum()
        for row, mask, index in zip(batch.tokens[batch.kept], batch.scored[batch.kept], batch.index, strict=True):
            assert (losses[index] == -1).all()
            losses[index, : len(row)] = row
            assert (mask == right[index, : len(mask)]).all()
    assert counts.tolist() == scored.scored_tokens().tolist()
    assert (losses == scored.tokens)[scored.valid_tokens()].all()
    assert len(shapes) <= 4 and all(rows == 1 or (rows - 1) * width < tokens for rows, width in shapes)


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
