"""Pages to look at: the report of an evaluation and the gallery of a data set, each HTML that needs nothing else."""

from posecli.reports.gallery import write_gallery
from posecli.reports.report import write_report

__all__ = ["write_gallery", "write_report"]
