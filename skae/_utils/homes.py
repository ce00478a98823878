"""Packages of the public names that are not in `skae` itself, for its error."""

# They are listed, because an import of the packages takes seconds.
_NAMES = {
    "impute": "AutoencoderImputer",
    "inspection": (
        "FeatureScoresDisplay GradientBalanceDisplay ImputationDisplay "
        "KLSpectrumDisplay LatentSpaceDisplay LossCurveDisplay ReconstructionDisplay "
        "ResidualQQDisplay ScaleProfileDisplay"
    ),
    "likelihoods": (
        "BernoulliLikelihood CategoricalLikelihood ContinuousBernoulliLikelihood "
        "Derivatives GaussianLikelihood GeneralizedLinear LIKELIHOODS "
        "LaplaceLikelihood Likelihood LinkStart LocationScale LogNormalLikelihood "
        "LogisticLikelihood Mixed MixtureLikelihood Moments "
        "NegativeBinomialLikelihood PoissonLikelihood StudentTLikelihood"
    ),
    "model_selection": (
        "BatchedGridSearchCV BatchedRandomizedSearchCV log_marginal_scorer "
        "make_log_marginal_scorer make_reconstruction_error_scorer "
        "reconstruction_error_scorer"
    ),
    "networks": "ACTIVATIONS Conv MLP ModelPart NETWORKS Network",
    "objectives": (
        "ConstantSchedule CyclicalSchedule DecreasingSchedule ELBO KLSchedule "
        "KL_SCHEDULES LinearSchedule NegativeLogLikelihood Objective gradient_balance"
    ),
    "onnx": "register_converters to_onnx",
    "outlier": "LikelihoodOutlierDetector",
    "persistence": "InvalidFileError",
    "recipes": "make_density_estimator make_imputation_estimator make_outlier_estimator",
    "scales": (
        "FixedScale LearnedScale MixedScale NoScale OptimalScale PredictedScale "
        "ProfileScale SCALES Scale fits legal_combinations make_scale "
        "resolve_variance_mode"
    ),
}

# Package by name.
PACKAGE_OF = {name: package for package, names in _NAMES.items() for name in names.split()}
