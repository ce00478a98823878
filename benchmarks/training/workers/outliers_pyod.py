"""Score test rows by a neural outlier detector of PyOD, with its defaults."""

import json
import sys

import numpy as np
import torch
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.vae import VAE
from worker import answer

_DETECTORS = {"AutoEncoder": AutoEncoder, "VAE": VAE}

if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    detector = _DETECTORS[request["variant"]](random_state=request["seed"], verbose=0)
    detector.fit(np.load(request["train"]))
    np.save(request["scores"], detector.decision_function(np.load(request["test"])))
    answer()
