"""Classify tables of Dask, Spark and Ray, in the workers that these have."""

from .frames import classify_frame

__all__ = ["classify_frame"]
