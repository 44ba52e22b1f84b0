"""Metrics of pose estimation: OKS AP and AR, mean OKS, PCK, PCKh, PDJ, PCP, the local NMS score.

`evaluate` compares label and prediction files; the modules hold the rules on plain arrays. Nothing here imports torch.
"""

from posecli.metrics.evaluation import evaluate
from posecli.metrics.options import METRICS

__all__ = ["METRICS", "evaluate"]
