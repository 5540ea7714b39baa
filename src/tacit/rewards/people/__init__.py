"""Whose reward: people differ, and a reward can be one person's, one group's, or the one that no group suffers under.

| name | what it learns | adapts to a person by |
|---|---|---|
| `decomposed` | directions in which preferences vary (principal components of feature differences) | weighting heads |
| `groups` | a reward per group, known or found, and the one that is best for the worst group | posterior over groups |
| `latent` | rewards around the pooled one, along a few latent directions | an encoder of the person's comparisons |
| `reliability` | one reward, and how far each annotator can be trusted | |

All work on a `Crowd` (who compared what, as tensors) and, once fitted, on a batch of people at a time.
"""
