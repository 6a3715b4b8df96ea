"""Make the embedded model of the checkpoints of one or several pre-trainings.

    python pretraining/pack.py RUN/model [RUN/model ...] --output skgliclass/weights/mini

Runs that start from the same weights can be averaged (Wortsman et al. 2022, arXiv:2203.05482), and
a model that lies between the start and their average often keeps more of what the backbone could do
before (Wortsman et al. 2022, arXiv:2109.01903): ``--strength`` says how far to go. ``--scale`` and
``--bias`` then set what the cosines are multiplied by and what is added, so that probabilities fit;
`benchmarks/calibrate_similarity.py` finds them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from skgliclass.loading.checkpoints import save_checkpoint
from skgliclass.loading.embedded import pack, untrained
from skgliclass.loading.loader import load_model
from skgliclass.loading.sources import EMBEDDED_HUB_ID, find_source
from skgliclass.training.tuned_weights import TunedWeights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, help="checkpoint folders")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--scale", type=float, help="in place of the trained one")
    parser.add_argument("--bias", type=float, help="in place of the trained one")
    parser.add_argument("--whole", type=Path, help="also write it unpacked, as a checkpoint")
    args = parser.parse_args()

    loaded = [load_model(str(folder), device="cpu", dtype="float32") for folder in args.models]
    states = [dict(one.network.named_parameters()) for one in loaded]
    source = find_source(EMBEDDED_HUB_ID)
    config = loaded[0].network.config

    def backbone_tokenizer() -> Tokenizer:
        return Tokenizer.from_file(str(source.folder / "tokenizer.json"))

    start = untrained(config.to_dict(), source, backbone_tokenizer())
    with torch.no_grad():
        trained = {}
        for name, before in start.named_parameters():
            if all(torch.equal(state[name], before) for state in states):
                continue  # a mean would differ by rounding
            mean = torch.stack([state[name] for state in states]).mean(dim=0)
            trained[name] = before + args.strength * (mean - before)
        if args.scale is not None:
            trained["logit_scale"] = torch.tensor(args.scale)
    if args.scale is not None:
        config.logit_scale_init_value = args.scale
    if args.bias is not None:
        config.logit_bias = args.bias
    pack(trained, config, source, backbone_tokenizer(), args.output)
    for path in sorted(args.output.iterdir()):
        print(f"{path.stat().st_size / 1e6:7.3f} MB  {path}")
    if args.whole:
        save_checkpoint(args.whole, TunedWeights(trained).apply(loaded[0]))


if __name__ == "__main__":
    main()
