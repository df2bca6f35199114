"""ruDALL-E's and minDALL-E's own transformers in small sizes, with random weights."""

import numpy as np
import official
import official_peers
import random_weights

BATCH, HEADS, WIDTH = 3, 4, 48
TEXT, GRID = 9, 13  # an 11 x 11 window is not all of this grid, whether it wraps or not
SMALL = {"TEXT": 5, "GRID": 7}
# Without this the blocks' outputs drown the embeddings, and the scores are so flat that a mask would hardly show.
SCALES = {r"embeddings?\.weight|(tok|pos)_emb": 0.5, r"query_key_value.weight|attn\.(query|key)\.weight": 0.3}


def rudalle(version, text=TEXT, grid=GRID, layers=5, relax=True):
  module = official_peers.rudalle("dalle.model").DalleModel(
    device="cpu",
    num_layers=layers,
    vocab_size=50 + text,
    hidden_size=WIDTH,
    num_attention_heads=HEADS,
    embedding_dropout_prob=0.1,
    attention_dropout_prob=0.1,
    output_dropout_prob=0.1,
    text_seq_length=text,
    image_tokens_per_dim=grid,
    image_vocab_size=40,
    cogview_sandwich_layernorm=True,
    cogview_pb_relax=relax,
    hf_version=f"v{version}",
  )
  random_weights.fill(module, scales=SCALES)
  return module.eval()


def mindalle(text=TEXT, grid=GRID, layers=3):
  OmegaConf = official.load("omegaconf").OmegaConf
  sizes = {"embed_dim": WIDTH, "n_layers": layers, "n_heads": HEADS, "n_dense_layers": layers}
  sizes |= {"ctx_len_img": grid**2, "ctx_len_txt": text, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
  sizes |= {"mlp_bias": True, "attn_bias": True, "gelu_use_approx": False}
  module = official_peers.mindalle("stage2.transformer").Transformer1d(50, 40, OmegaConf.create(sizes))
  random_weights.fill(module, scales=SCALES)
  return module.eval()


def tokens(text=TEXT, grid=GRID, seed=1):
  """Captions that end in pads (one is full), and codes."""
  rng = np.random.default_rng(seed)
  text_BT = rng.integers(3, 50, (BATCH, text))
  for row, absent in zip(text_BT, (0, 2, text - 1)):
    row[text - absent :] = 0
  return text_BT.astype(np.int32), rng.integers(0, 40, (BATCH, grid**2)).astype(np.int32)


def their_joint(module, text_BT, codes_BN):
  torch = official.load("torch")
  length = module.total_seq_length
  with torch.no_grad():
    ids = torch.from_numpy(np.concatenate([text_BT, codes_BN], axis=1)).long()
    return module(ids, torch.tril(torch.ones(len(ids), 1, length, length)))[0].numpy()


def their_parts(module, text_BT, codes_BN):
  torch = official.load("torch")
  text, codes = torch.from_numpy(text_BT).long(), torch.from_numpy(codes_BN).long()
  with torch.no_grad():
    image_BNW, text_BSV = module(codes, text, *(torch.arange(x.shape[1])[None] for x in (codes, text)))
  return text_BSV.numpy(), image_BNW.numpy()
