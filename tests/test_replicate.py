"""Published trends: their direction and order of size must come out, not their digits."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.errors import UsageError
from archsim.validation.papers import PAPERS, replicate
from archsim.validation.papers.attacc import GPT3, gain
from archsim.validation.papers.neupims import Point, layers


def test_attention_in_memory_beats_gpus_of_the_same_capacity():
    bank = gain(GPT3, "dgx-a100-large")
    assert 1.5 < bank.throughput < 2.81  # the paper's largest gain bounds it
    assert 1.2 < bank.energy < 2.67
    assert gain(GPT3, "dgx-a100").throughput > bank.throughput  # a smaller baseline loses more


def test_units_closer_to_the_banks_gain_more():
    gains = [gain(GPT3, "dgx-a100-large", unit).throughput for unit in ("buffer", "bankgroup", "bank")]
    assert gains == sorted(gains)
    assert gains[0] == pytest.approx(1.04, abs=0.15)  # the public simulator's figure for buffer units


def test_neupims_baselines_come_in_the_papers_order():
    point = Point("gpt3-7b", "ShareGPT", 64)
    assert np.mean(Point("gpt3-7b", "ShareGPT", 4096).lengths) == pytest.approx(80 + 296 / 2, rel=0.05)
    x = layers([point])[point]
    assert x.dual <= x.naive < x.naive_queued < x.npu_chain
    assert x.dual < x.npu_only < x.npu_chain
    assert x.interleaved > x.dual  # two sub-batches lose at small batches
    assert x.neupims == x.dual


def test_an_unknown_paper_is_one_line():
    assert "attacc" in PAPERS.names()
    with pytest.raises(UsageError, match="did you mean 'attacc'"):
        replicate("atacc")
