"""Metrics of pose estimation: AP, shares of correct joints and limbs, errors, tracking, the local NMS score.

`evaluate` compares label and prediction files; the modules hold the rules on plain arrays. Nothing here imports torch.
"""

from posecli.metrics.evaluation import evaluate
from posecli.metrics.options import DEFAULT_METRICS, METRICS

__all__ = ["DEFAULT_METRICS", "METRICS", "evaluate"]
