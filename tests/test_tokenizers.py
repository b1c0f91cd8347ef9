"""Tokenizers: golden ids, obvious merging, lossless round trips, and files that are not what they should be."""

import json
import struct

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.tokenizers import Llama2cTokenizer, Tokenizer, load_llama2c, load_tokenizer


def llama2c_content(pieces):
    """A file of llama2.c: the given (piece, score) pairs behind the special and the byte pieces."""
    special = [(b"<unk>", 0.0), (b"<s>", 0.0), (b"</s>", 0.0), *((f"<0x{i:02X}>".encode(), 0.0) for i in range(256))]
    body = b"".join(struct.pack("<fi", score, len(piece)) + piece for piece, score in [*special, *pieces])
    return struct.pack("<i", 16) + body


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("llama2c") / "tok.bin"
    pieces = [(c.encode(), -99.0) for c in " abct"] + [(b"ab", -2.0), (b"bc", -1.0), (b"abc", -3.0), (b" a", -2.0)]
    path.write_bytes(llama2c_content(pieces))
    return load_llama2c(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small byte-level BPE in a folder as Hugging Face lays it out."""
    folder = tmp_path_factory.mktemp("hf")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Lily found a red ball in the park."] * 9, trainer)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def with_settings(folder, target, **files):
    (target / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    for name, content in files.items():
        (target / f"{name}.json").write_text(json.dumps(content))
    return target


def test_golden_ids_of_llama2c(shared):
    golden = json.loads((shared / "golden" / "models.json").read_text())["stories260K"]
    tokenizer = load_tokenizer(shared / "data" / "stories260K")
    assert [tokenizer.bos_id, *tokenizer.encode(golden["prompt"])] == golden["prompt_ids"]
    assert tokenizer.decode(golden["prompt_ids"]) == golden["prompt"]
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (512, 1, 2)


def obvious_id(tokenizer, character):
    """The id of an ASCII character: its piece, else its byte."""
    piece = character.encode()
    return tokenizer.pieces.index(piece) if piece in tokenizer.pieces else ord(character) + 3


def obvious_ids(tokenizer, text):
    """The algorithm of llama2.c on the whole text at once."""
    ids = [obvious_id(tokenizer, c) for c in (" " + text if text else "")]
    while True:
        best, at = None, None
        for i in range(len(ids) - 1):
            joined = tokenizer.pieces[ids[i]] + tokenizer.pieces[ids[i + 1]]
            if joined in tokenizer.pieces:
                score = tokenizer.scores[tokenizer.pieces.index(joined)]
                if best is None or score > best:
                    best, at = score, i
        if at is None:
            return ids
        ids[at : at + 2] = [tokenizer.pieces.index(tokenizer.pieces[ids[at]] + tokenizer.pieces[ids[at + 1]])]


@given(text=st.text("abc t", max_size=12))
def test_merging_word_by_word_equals_merging_the_whole(small, text):
    assert small.encode(text) == obvious_ids(small, text)


def test_merging_word_by_word_equals_merging_the_whole_on_a_real_vocabulary(shared):
    tokenizer = load_tokenizer(shared / "data" / "stories260K")
    story = (shared / "data" / "text" / "tinystories_dev.txt").read_text().split("<|endoftext|>")[0].strip()[:400]
    assert tokenizer.encode(story) == obvious_ids(tokenizer, story)


@given(text=st.text(max_size=30))
def test_llama2c_loses_nothing(small, text):
    """Characters without a piece go as bytes."""
    assert small.decode([small.bos_id, *small.encode(text), small.eos_id]) == text
    assert all(0 <= i < small.vocab_size for i in small.encode(text))


@given(text=st.text(max_size=30).filter(lambda text: "<" not in text))
def test_byte_level_bpe_loses_nothing(trained, text):
    tokenizer = load_tokenizer(trained)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_truncation_saved_in_the_file_is_off(trained):
    assert len(load_tokenizer(trained).encode("park! " * 50)) > 50


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (None, None)),
        ({"config": {"bos_token_id": 0, "eos_token_id": [1, 5]}}, (0, 1)),
        ({"tokenizer_config": {"bos_token": "<s>", "eos_token": {"content": "</s>"}}}, (0, 1)),
        ({"tokenizer_config": {"bos_token": None}, "config": {"bos_token_id": 1, "eos_token_id": None}}, (1, None)),
        ({"tokenizer_config": {"bos_token": "<none>"}, "config": {"bos_token_id": True}}, (None, None)),
    ],
)
def test_where_special_tokens_are_found(trained, tmp_path, files, expected):
    tokenizer = load_tokenizer(with_settings(trained, tmp_path, **files))
    assert (tokenizer.bos_id, tokenizer.eos_id) == expected


def test_both_kinds_keep_the_protocol(trained, small):
    assert isinstance(load_tokenizer(trained), Tokenizer) and isinstance(small, Tokenizer)


def test_a_model_may_know_fewer_tokens(trained, tmp_path):
    assert load_tokenizer(trained, vocab_size=270).vocab_size == 270
    assert load_tokenizer(trained, vocab_size=1000).vocab_size == 283
    (tmp_path / "tok9.bin").write_bytes(llama2c_content([]))
    with pytest.raises(WorkloadError, match=r"tok9.bin: has 259 pieces, but the model knows 200"):
        load_tokenizer(tmp_path, vocab_size=200)


@pytest.mark.parametrize("names", [(), ("tok1.bin", "tok2.bin")])
def test_a_folder_without_a_clear_tokenizer(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(llama2c_content([]))
    with pytest.raises(WorkloadError, match=f"found {', '.join(names) or 'none'}$"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "invalid JSON"), (b"[]", "JSON object"), (b'{"model": 3}', "not a tokenizer")]
)
def test_a_damaged_tokenizer_json(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(WorkloadError, match=message) as refusal:
        load_tokenizer(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 pieces, but"),
        (llama2c_content([])[:1000], "damaged or truncated at piece"),
        (llama2c_content([(b"a", 0.0)])[:-1], "damaged or truncated at piece 259"),
        (llama2c_content([]) + struct.pack("<fi", 0.0, -5), "damaged or truncated at piece 259"),
        (llama2c_content([(b"of the", 0.0)]), "the piece b'of the' has an inner space"),
    ],
)
def test_a_damaged_llama2c_file(tmp_path, content, message):
    (tmp_path / "tok.bin").write_bytes(content)
    with pytest.raises(WorkloadError, match=message):
        load_tokenizer(tmp_path)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "tok.bin"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=r"tok\.bin: "):
        load_llama2c(path)


def test_runs_of_spaces_keep_together():
    pieces = (*(b"%d" % i for i in range(259)), b" ", b"  ", b"    ", b"a", b" a")
    tokenizer = Llama2cTokenizer(pieces, (0.0,) * 259 + (-9.0, -1.0, -2.0, -9.0, -3.0))
    assert [tokenizer.pieces[i] for i in tokenizer.encode("    a a")] == [b"    ", b" a", b" a"]


# What Hugging Face's library reads


def saved(folder, tokenizer, **files):
    tokenizer.save(str(folder / "tokenizer.json"))
    return with_settings(folder, folder, **files)


def test_golden_ids_of_minilm(shared):
    golden = json.loads((shared / "golden" / "models.json").read_text())["minilm"]
    tokenizer = load_tokenizer(shared / "data" / "minilm")
    assert [tokenizer.encode_sentence(sentence) for sentence in golden["sentences"]] == golden["sentence_ids"]
    assert [tokenizer.encode(sentence) for sentence in golden["sentences"]] == [i[1:-1] for i in golden["sentence_ids"]]
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.bos_id, tokenizer.eos_id) == (101, 102, None, None)
    assert (tokenizer.vocab_size, tokenizer.decode(golden["sentence_ids"][0])) == (30522, "a girl is styling her hair.")


def test_the_end_of_a_long_sentence_is_cut_off(shared, tmp_path):
    """The special tokens stay, whether the file puts them there or nobody says so."""
    whole = load_tokenizer(shared / "data" / "minilm")
    bare = tokenizers.Tokenizer.from_file(str(shared / "data" / "minilm" / "tokenizer.json")).to_str()
    bare = tokenizers.Tokenizer.from_str(json.dumps({**json.loads(bare), "post_processor": None}))
    plain = load_tokenizer(saved(tmp_path, bare, tokenizer_config={"cls_token": "[CLS]", "sep_token": "[SEP]"}))
    text = "the crossbar stores weights as conductances"
    for tokenizer in (whole, plain):
        ids = tokenizer.encode_sentence(text)
        assert ids == [101, *tokenizer.encode(text), 102]
        assert tokenizer.encode_sentence(text, limit=5) == [*ids[:4], 102]
        assert tokenizer.encode_sentence(text, limit=len(ids)) == ids
        assert tokenizer.encode_sentence(text, limit=0) == [101, 102]
    assert len(whole.encode_sentence("crossbar " * 300)) > 300, "the file's own cut at 128 is off"


PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]


@pytest.fixture(scope="module")
def sentence_piece(tmp_path_factory):
    """A BPE in the form of Llama's tokenizer.json: a space is ▁, also in front, what has no piece is bytes."""
    merges = [("a", "b"), ("▁", "ab"), ("▁ab", "c"), ("b", "c")]
    vocabulary = [*PIECES, "▁", *"abct", *("".join(pair) for pair in merges)]
    tokenizer = tokenizers.Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(vocabulary)}, merges, byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    folder = tmp_path_factory.mktemp("llama")
    return load_tokenizer(saved(folder, tokenizer, tokenizer_config={"bos_token": "<s>", "eos_token": "</s>"}))


def test_sentence_piece_in_the_form_of_llama(sentence_piece):
    names = lambda text: [sentence_piece.tokenizer.id_to_token(i) for i in sentence_piece.encode(text)]
    assert names("abc ab é") == ["▁abc", "▁ab", "▁", "<0xC3>", "<0xA9>"]
    assert (sentence_piece.bos_id, sentence_piece.eos_id) == (1, 2)
    assert sentence_piece.encode_sentence("ab") == sentence_piece.encode("ab"), "the file puts nothing around it"


@given(text=st.text(max_size=20).filter(lambda text: not {"<", "▁"} & set(text)))
def test_sentence_piece_loses_nothing(sentence_piece, text):
    assert sentence_piece.decode([1, *sentence_piece.encode(text), 2]) == text


def test_unigram(tmp_path):
    """The likeliest cut: "ab" and "c" together (-3) are likelier than "a" and "bc" (-4)."""
    scores = {"<unk>": -9.0, "▁": -2.0, "a": -2.0, "ab": -1.0, "bc": -2.0, "c": -2.0, "</s>": 0.0}
    tokenizer = tokenizers.Tokenizer(models.Unigram(list(scores.items()), unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    found = load_tokenizer(saved(tmp_path, tokenizer, config={"eos_token_id": 6}))
    pieces = list(scores)
    assert [pieces[i] for i in found.encode("abc a")] == ["▁", "ab", "c", "▁", "a"]
    assert found.decode([*found.encode("abc a")]) == "abc a"
    assert (found.bos_id, found.eos_id, found.vocab_size) == (None, 6, 7)


def test_a_text_without_pieces_is_told(tmp_path):
    tokenizer = tokenizers.Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]"))
    found = load_tokenizer(saved(tmp_path, tokenizer))
    assert found.encode("a") == [0]
    with pytest.raises(WorkloadError, match=r"tokenizer cannot encode the text \(WordPiece error: Missing"):
        found.encode("b")


@pytest.fixture
def gpt2(trained, tmp_path):
    """The two files of GPT-2 and OPT."""
    content = json.loads((trained / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(content["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return tmp_path


def test_the_two_files_of_gpt2(trained, gpt2):
    """The same ids as tokenizer.json's; special tokens are those that other files name."""
    (gpt2 / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "</s>"}, "eos_token": "</s>"}))
    ours, theirs = load_tokenizer(gpt2), load_tokenizer(trained)
    text = "Lily found two red balls </s> in the dark."
    assert ours.encode(text) == theirs.encode(text)
    assert ours.bos_id == ours.eos_id == 1 and ours.decode([1, *ours.encode("red ball"), 1]) == "red ball"
    (gpt2 / "merges.txt").write_text("a b c d e\n")
    with pytest.raises(WorkloadError, match=r"vocab.json: not GPT-2's vocabulary with its merges.txt \("):
        load_tokenizer(gpt2)
    (gpt2 / "merges.txt").unlink()
    with pytest.raises(WorkloadError, match=r"merges.txt: no such file; beside vocab.json"):
        load_tokenizer(gpt2)


def test_a_model_whose_texts_begin_with_nothing(trained, tmp_path):
    """Qwen names a BOS in config.json, but says that it is not put in front."""
    settings = {"tokenizer_config": {"add_bos_token": False, "bos_token": None}, "config": {"bos_token_id": 0}}
    assert load_tokenizer(with_settings(trained, tmp_path, **settings)).bos_id is None


def test_sentence_pieces_own_format_is_told(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\n")
    with pytest.raises(WorkloadError, match=r"tokenizer.model: SentencePiece's own format.*save_pretrained"):
        load_tokenizer(tmp_path)


# Characters


def test_characters_of_a_real_model(shared):
    tokenizer = load_tokenizer(shared / "data" / "char_gpt", vocab_size=65)
    text = (shared / "data" / "text" / "tinyshakespeare.txt").read_text()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and set(ids) == set(range(65))
    assert ids[:3] == [sorted(set(text)).index(c) for c in text[:3]]
    assert isinstance(tokenizer, Tokenizer)
    with pytest.raises(WorkloadError, match=r"the character 'é' \(number 3 of the text\) is none of the 65"):
        tokenizer.encode("cafés")


@pytest.mark.parametrize(
    ("chars", "message"),
    [
        ("", "must be a string"),
        ("aba", "each once"),
        (3, "must be a string"),
        (["ab"], "must be a string"),
        ("abcdef", "has 6 characters, but the model knows 5"),
    ],
)
def test_a_vocabulary_of_characters_that_cannot_be_used(tmp_path, chars, message):
    (tmp_path / "vocab.json").write_text(json.dumps({"chars": chars}))
    with pytest.raises(WorkloadError, match=rf"vocab.json: .*{message}"):
        load_tokenizer(tmp_path, vocab_size=5)
