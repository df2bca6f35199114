"""Captions as token ids: SentencePiece trains the vocabulary, the merges are made here, in training some are dropped.

The paper's rules: lower-case (Unicode's case folding), and only letters merge: a digit, a punctuation mark or a space
is a token of its own. Letters of a word merge by SentencePiece's own order (byte-pair encoding); with dropout each
merge is left out with a probability, so that words are met in other spellings too (Provilkov et al. 2020).
SentencePiece's own dropout is not repeatable across processes; this one draws from the caller's generator.

T text positions.
"""

import dataclasses
import functools
import heapq
import io
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import sentencepiece
from jaxtyping import Int

from dalle_jax.errors import UserError

SPACE = "\u2581"  # how SentencePiece writes a space
RULE = "nmt_nfkc_cf"  # Unicode's compatibility forms, case-folded, spaces squeezed
SPELT_OUT = 0.3  # share of a caption's tokens
LEAST_VOCAB = 300  # 256 bytes, which spell what no piece does, and some letters
RUNS = re.compile(r"[^\W\d_]+|.", re.DOTALL)  # a run of letters, or one other character


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
  """The paper's: 16,384 ids at most, 256 positions of which the last is always a pad, a tenth of merges dropped.

  spaces: whether the space between two words is a token, as in the paper; without, captions take half the positions.
  """

  vocab: int = 16384
  length: int = 256
  dropout: float = 0.1
  spaces: bool = True

  def __post_init__(self) -> None:
    if self.vocab < LEAST_VOCAB:
      raise UserError(f"the tokenizer's vocab is {self.vocab}: at least {LEAST_VOCAB} is wanted")
    if self.length < 2:
      raise UserError(f"the tokenizer's length is {self.length}: at least 2 is wanted, one of them for a pad")
    if not 0 <= self.dropout < 1:
      raise UserError(f"the tokenizer's dropout is {self.dropout}: 0 or more and less than 1 is wanted")


def train(texts: Iterable[str], cfg: TokenizerConfig) -> bytes:
  """A SentencePiece model of at most `cfg.vocab` pieces; fewer where the texts do not hold that many.

  Raises UserError when the texts hold nothing that can be read, and whatever reading them raises.
  """
  model = io.BytesIO()
  raised: list[BaseException] = []
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=_watched(_words(texts), raised),
      model_writer=model,
      model_type="bpe",
      vocab_size=cfg.vocab,
      hard_vocab_limit=False,
      character_coverage=1.0,
      byte_fallback=True,
      normalization_rule_name=RULE,
      add_dummy_prefix=False,
      user_defined_symbols=[SPACE],
      unk_id=0,
      bos_id=-1,
      eos_id=-1,
      pad_id=-1,
      num_threads=1,
      minloglevel=2,
    )
  except (RuntimeError, OSError) as error:
    if raised:
      raise raised[0] from None
    reason = " ".join(str(error).split())[-100:]
    raise UserError(f"no tokenizer can be trained on these captions ({reason}): do they hold any words?") from error
  return model.getvalue()


class Tokenizer:
  """Captions to ids by a trained model."""

  def __init__(self, model: bytes, cfg: TokenizerConfig):
    self.model, self.cfg = model, cfg
    try:
      self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
      raise UserError("tokenizer.model is no SentencePiece model: put back that of the run's training") from error
    if self._pieces.vocab_size() > cfg.vocab:
      raise UserError(f"the tokenizer's model has {self._pieces.vocab_size()} pieces, its vocab is {cfg.vocab}")
    plain = [i for i in range(self._pieces.vocab_size()) if not self._pieces.is_byte(i) and i != 0]
    self._id = {self._pieces.id_to_piece(i): i for i in plain}
    self._score = {piece: self._pieces.get_score(i) for piece, i in self._id.items()}
    self._byte = [self._pieces.piece_to_id(f"<0x{b:02X}>") for b in range(256)]
    self._spelt = functools.lru_cache(maxsize=65536)(lambda run: tuple(self._ids_of(self._merge(run, 0.0, None))))

  def __reduce__(self):
    return Tokenizer, (self.model, self.cfg)

  @property
  def size(self) -> int:
    """Pieces the model has."""
    return self._pieces.vocab_size()

  def encode(self, text: str, rng: np.random.Generator | None = None) -> list[int]:
    """All ids of a caption, without dropout unless a generator is given; as many as there are, pads not among them."""
    dropout = self.cfg.dropout if rng is not None else 0.0
    found: list[int] = []
    for run in _runs(self._pieces.normalize(text)):
      if run == SPACE and not self.cfg.spaces:
        continue
      found += self._ids_of(self._merge(run, dropout, rng)) if dropout and len(run) > 1 else self._spelt(run)
    return found

  def ids(self, text: str, rng: np.random.Generator | None = None) -> Int[np.ndarray, " T"]:
    """The first length - 1 ids, then the pads: an absent token at position i is id vocab + i."""
    found = self.encode(text, rng)[: self.cfg.length - 1]
    padded_T = np.arange(self.cfg.vocab, self.cfg.vocab + self.cfg.length, dtype=np.int32)
    padded_T[: len(found)] = found
    return padded_T

  def spelt_out(self, text: str) -> float:
    """Share of a caption's tokens that are bytes, or single letters of longer words: of words that are not known.

    Spaces do not count, nor do digits and punctuation marks that have a piece. 0 for a caption without tokens.
    """
    tokens = spelt = 0
    for run in _runs(self._pieces.normalize(text)):
      for piece in self._merge(run, 0.0, None) if run != SPACE else ():
        found = 1 if piece in self._id else len(piece.encode())
        tokens += found
        spelt += found if piece not in self._id or (len(piece) == 1 < len(run)) else 0
    return spelt / tokens if tokens else 0.0

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, pads left out; where spaces are no tokens the words run together."""
    return self._pieces.decode([int(i) for i in ids if i < self.cfg.vocab])

  def words(self, text: str) -> list[tuple[str, list[int]]]:
    """The words, which are what spaces part, and the places of their ids in `encode(text)`; a space's is no word's."""
    found: list[tuple[str, list[int]]] = []
    place, inside = 0, False
    for run in _runs(self._pieces.normalize(text)):
      if run != SPACE:
        ids = len(self._spelt(run))
        word, places = found.pop() if inside else ("", [])
        found.append((word + run, [*places, *range(place, place + ids)]))
        place += ids
      elif self.cfg.spaces:
        place += len(self._spelt(run))
      inside = run != SPACE
    return found

  def _merge(self, run: str, dropout: float, rng: np.random.Generator | None) -> list[str]:
    """Joins the pair that the model learnt first, again and again; a dropped pair is not tried a second time."""
    part, after, before = list(run), list(range(1, len(run) + 1)), list(range(-1, len(run) - 1))
    pairs: list[tuple[float, int, int, str]] = []

    def consider(left: int, right: int) -> None:
      if left >= 0 and right < len(run):
        joined = part[left] + part[right]
        if joined in self._score:
          heapq.heappush(pairs, (-self._score[joined], left, right, joined))

    for i in range(len(run) - 1):
      consider(i, i + 1)
    while pairs:
      _, left, right, joined = heapq.heappop(pairs)
      stale = part[left] + part[right] != joined or after[left] != right
      if stale or (dropout and rng.random() < dropout):
        continue
      part[left], part[right], after[left] = joined, "", after[right]
      if after[right] < len(run):
        before[after[right]] = left
      consider(before[left], left)
      consider(left, after[left])
    return [piece for piece in part if piece]

  def _ids_of(self, pieces: list[str]) -> Iterator[int]:
    for piece in pieces:
      if piece in self._id:
        yield self._id[piece]
      else:
        yield from (self._byte[b] for b in piece.encode())


def typed_ids(words: Tokenizer, caption: str, *, strict: bool, say: Callable[[str], object]) -> Int[np.ndarray, " T"]:
  """The ids of a caption that a person typed. Raises UserError when there are none, or, if `strict`, too many."""
  count, most = len(words.encode(caption)), words.cfg.length - 1
  if not count:
    raise UserError(f"the caption {caption[:40]!r} holds no word that can be read; wanted some text")
  if count > most and strict:
    raise UserError(f"the caption {caption[:40]!r}... has {count} tokens, wanted at most {most}: shorten it")
  if count > most:
    say(f"the caption {caption[:40]!r}... has {count} tokens; only the first {most} are read")
  return words.ids(caption)


def unknown(words: Tokenizer, captions: Iterable[str]) -> list[str]:
  """The captions of which more than `SPELT_OUT` are bytes and single letters: their words are not known."""
  return [caption for caption in captions if words.spelt_out(caption) > SPELT_OUT]


def _words(texts: Iterable[str]) -> Iterator[str]:
  """Every run of letters and every other character by itself: SentencePiece learns no merge across them.

  They are told apart after the rule is applied, as when encoding: it writes ½ as 1⁄2.
  """
  normaliser = sentencepiece.SentencePieceNormalizer(rule_name=RULE, escape_whitespaces=False)
  for text in texts:
    yield from (run for run in _runs(normaliser.normalize(text)) if not run.isspace() and run != SPACE)


def _watched(items: Iterator[str], raised: list[BaseException]) -> Iterator[str]:
  """Keeps what comes up while reading: SentencePiece passes on an error of its own in place of it."""
  try:
    yield from items
  except (Exception, KeyboardInterrupt) as error:
    raised.append(error)
    raise


def _runs(normalised: str) -> list[str]:
  return RUNS.findall(normalised)
