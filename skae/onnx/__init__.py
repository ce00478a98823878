"""Fitted models as ONNX graphs, for runtimes without Python or PyTorch.

The module needs the packages of the extra: ``pip install 'skae[onnx]'``.
"""

from skae.onnx.export import register_converters, to_onnx

__all__ = ["register_converters", "to_onnx"]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
