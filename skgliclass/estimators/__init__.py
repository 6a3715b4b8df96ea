"""The scikit-learn estimators; nothing here knows a tensor."""
