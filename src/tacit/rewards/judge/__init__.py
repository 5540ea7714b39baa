"""A language model asked for its opinion, behind an endpoint or on this machine, as a reward."""

from tacit.rewards.judge.reward import Judge, PairwiseJudge, fit, judge_of
from tacit.rewards.judge.settings import JudgeError, JudgeSettings, read_settings

__all__ = ["Judge", "JudgeError", "JudgeSettings", "PairwiseJudge", "fit", "judge_of", "read_settings"]
