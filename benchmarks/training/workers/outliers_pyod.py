"""Score test rows by a neural outlier detector of PyOD, with its defaults."""

import numpy as np
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.vae import VAE
from worker import answer, read_request

_DETECTORS = {"AutoEncoder": AutoEncoder, "VAE": VAE}

if __name__ == "__main__":
    request, plan = read_request()
    detector = _DETECTORS[plan.variant](random_state=plan.seed, verbose=0)
    detector.fit(np.load(request["train"]))
    np.save(request["scores"], detector.decision_function(np.load(request["test"])))
    answer()
