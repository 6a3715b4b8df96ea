"""Classify a few real sentences with the embedded model and print what it thinks."""

from __future__ import annotations

import pandas as pd

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

HEADLINES = [
    "One day I will see the world, from Lisbon to Samarkand.",
    "Extra-time header sends the underdogs into the final.",
    "Central bank leaves interest rates unchanged for a third month.",
    "New telescope images show water on a distant planet.",
    "Parliament votes on the coalition's housing bill tonight.",
    "Simmer the tomatoes for an hour before you add the basil.",
]

MESSAGES = [
    "The parcel arrived two weeks late and the box was crushed.",
    "I was charged twice for my subscription, please refund one of them.",
    "I cannot log in since the update.",
    "The parcel arrived damaged, so please refund my payment.",
]


def main() -> None:
    """Print one table for each classifier."""
    one = GLiClassClassifier(
        labels=["travel", "sport", "economy", "science", "politics", "cooking"]
    )
    scores = one.predict_frame(HEADLINES)
    table = pd.DataFrame(
        {"text": HEADLINES, "class": scores.idxmax(axis=1), "probability": scores.max(axis=1)}
    )
    show("One class a text: GLiClassClassifier", table)

    many = GLiClassMultiLabelClassifier(
        labels={
            "delivery": "late delivery or damaged parcel",
            "billing": "payment, charge or refund",
            "login": "problem with logging in",
        }
    )
    table = many.predict_frame(MESSAGES)
    table.insert(0, "labels", [", ".join(names) for names in many.predict_labels(MESSAGES)])
    table.insert(0, "text", MESSAGES)
    show("Any number of classes a text: GLiClassMultiLabelClassifier", table)


def show(title: str, table: pd.DataFrame) -> None:
    """Print a table with its text to the left."""
    table = table.assign(text=table["text"].str.ljust(table["text"].str.len().max()))
    print(f"\n{title}\n")
    print(table.to_string(index=False, justify="left", float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
