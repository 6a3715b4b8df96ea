"""Look at what a classifier does, and why: pictures in scikit-learn's manner, and explanations."""

from .explanation import Explanation
from .occlusion import explain
from .reliability import ReliabilityDisplay
from .scores import ScoresDisplay
from .similarity import LabelSimilarityDisplay
from .thresholds import ThresholdDisplay
from .training import TrainingDisplay

__all__ = [
    "Explanation",
    "LabelSimilarityDisplay",
    "ReliabilityDisplay",
    "ScoresDisplay",
    "ThresholdDisplay",
    "TrainingDisplay",
    "explain",
]
