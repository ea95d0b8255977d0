"""Types a skops archive may build and functions it may name, beyond those skops trusts itself.

skops trusts the public estimators of scikit-learn, plain values, NumPy's arrays and types, and the ufuncs of NumPy and SciPy. Added
here are scikit-learn's own parts of fitted estimators, the functions that estimators take as parameters, and the scikit-learn classes
of XGBoost and LightGBM, whose payloads `skops_file` checks. Reviewed for this: none of them reads or writes files, starts processes,
evaluates text or calls what a request carries; whatever else they do ends with the replica they are loaded in. That is why whole modules
are not listed: SciPy's distributions run text as code when they are loaded, and NumPy reads files. What is not listed is refused by
name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_NAMES: Final = {
    "collections": "OrderedDict",
    "functools": "partial",
    "lightgbm.basic": "Booster",
    "lightgbm.sklearn": "LGBMClassifier LGBMModel LGBMRanker LGBMRegressor",
    "numpy": """
        abs all amax amin any append argmax argmin around asarray atleast_1d atleast_2d broadcast_to clip column_stack concatenate
        cumprod cumsum diff digitize dot dtype expand_dims fix flip hstack imag interp isclose max mean median min nan_to_num nanmax
        nanmean nanmedian nanmin nanstd nansum nanvar percentile prod quantile ravel real repeat reshape round sinc sort split
        squeeze stack std sum take tile transpose trapezoid unwrap var vstack where""",
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
    "scipy.interpolate._bsplines": "BSpline",
    "scipy.sparse._coo": "coo_array coo_matrix",
    "scipy.sparse._csc": "csc_array csc_matrix",
    "scipy.sparse._csr": "csr_array csr_matrix",
    "scipy.special._logsumexp": "log_softmax logsumexp softmax",
    "sklearn._loss.loss": "HalfTweedieLoss HalfTweedieLossIdentity",
    "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "sklearn.cluster._bisect_k_means": "_BisectingTree",
    "sklearn.cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
    "sklearn.compose._column_transformer": "make_column_selector",
    "sklearn.covariance._shrunk_covariance": "ledoit_wolf ledoit_wolf_shrinkage oas shrunk_covariance",
    "sklearn.dummy": "DummyClassifier DummyRegressor",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
    "sklearn.feature_selection._univariate_selection": "chi2 f_classif f_oneway f_regression r_regression",
    "sklearn.frozen._frozen": "FrozenEstimator",
    "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels": """
        CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Hyperparameter Matern PairwiseKernel Product RBF
        RationalQuadratic Sum WhiteKernel""",
    "sklearn.metrics._classification": """
        accuracy_score balanced_accuracy_score brier_score_loss cohen_kappa_score f1_score fbeta_score hamming_loss jaccard_score
        log_loss matthews_corrcoef precision_score recall_score zero_one_loss""",
    "sklearn.metrics._ranking": "average_precision_score ndcg_score roc_auc_score top_k_accuracy_score",
    "sklearn.metrics._regression": """
        d2_absolute_error_score d2_pinball_score d2_tweedie_score explained_variance_score max_error mean_absolute_error
        mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss mean_poisson_deviance mean_squared_error
        mean_squared_log_error median_absolute_error r2_score root_mean_squared_error root_mean_squared_log_error""",
    "sklearn.metrics._scorer": "_CurveScorer _MultimetricScorer _PassthroughScorer _Scorer",
    "sklearn.metrics.pairwise": """
        additive_chi2_kernel chi2_kernel cosine_distances cosine_similarity euclidean_distances haversine_distances laplacian_kernel
        linear_kernel manhattan_distances nan_euclidean_distances polynomial_kernel rbf_kernel sigmoid_kernel""",
    "sklearn.model_selection._split": """
        GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut PredefinedSplit RepeatedKFold
        RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit
        _CVIterableWrapper""",
    "sklearn.multiclass": "_ConstantPredictor",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.preprocessing._data": """
        add_dummy_feature binarize maxabs_scale minmax_scale normalize power_transform quantile_transform robust_scale scale""",
    "sklearn.tree._tree": "Tree",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    "sklearn.utils.validation": "check_array",
    "xgboost.core": "Booster",
    "xgboost.sklearn": "XGBClassifier XGBModel XGBRFClassifier XGBRFRegressor XGBRanker XGBRegressor",
}
ACCEPTED: Final = frozenset(f"{module}.{name}" for module, names in _NAMES.items() for name in names.split())


_OWN: Final = ("numpy", "pandas", "scipy", "sklearn")


def refusal(foreign: Iterable[str]) -> str:
    """Return why an archive with these types is not loaded, and what can be done."""
    names = sorted(foreign)
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    hint = "export the model to ONNX, or package it as Python code"
    if any(name.startswith("catboost.") for name in names):
        why = "CatBoost's own format is not read"
    elif any(name.startswith("scipy.stats.") for name in names):
        why, hint = (
            "SciPy's distributions run text as code when they are loaded",
            "save the fitted estimator without them",
        )
    elif all(name.partition(".")[0] in _OWN for name in names):
        why = "they are not on Limen's list of reviewed types"
    else:
        why = "their code is not in the file"
    return f"artifact: contains types or functions not allowed in a skops file: {listed}; {why}; {hint}"
