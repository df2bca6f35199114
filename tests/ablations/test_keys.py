"""What arms share of the stages that come before."""

import dataclasses

import tiny_run

from dalle_jax.ablations import keys


def dropping(rate):
  whole = tiny_run.experiment()
  return dataclasses.replace(whole, tokenizer=dataclasses.replace(whole.tokenizer, dropout=rate))


def test_arms_that_read_text_in_other_ways_share_what_reads_none():
  one, two = dropping(0.0), dropping(0.2)
  assert one != two
  assert keys.earlier(one, "transformer") == keys.earlier(two, "transformer")
  assert list(keys.earlier(one, "transformer").stages) == ["dvae"]
  assert keys.run(one, "transformer", 0) != keys.run(two, "transformer", 0)


def test_stages_that_read_text_are_of_its_tokenizer():
  one, two = (keys.earlier(dropping(rate), "clip") for rate in (0.0, 0.2))
  assert (one.tokenizer.dropout, two.tokenizer.dropout) == (0.0, 0.2)


def test_nothing_comes_before_the_first_stage():
  assert keys.earlier(dropping(0.0), "dvae") is None
