"""Convolutions, for images."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skae._utils.capabilities import ModelPart
from skae._utils.messages import warn_user
from skae._utils.numbers import is_integer, is_positive_integer
from skae._utils.random import random_conv, random_linear
from skae._utils.signatures import make_methods_readable
from skae.networks.mlp import ACTIVATIONS, check_activation, hidden_widths


class Crop(nn.Module, ModelPart):
    """Images without the rows and columns beyond a size.

    Parameters
    ----------
    height, width : int
        The size.
    """

    is_thread_safe = True

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : self.height, : self.width]


class ImagesAndFurther(nn.Module, ModelPart):
    """Images, and numbers that belong to no pixel, which come after the first image.

    Parameters
    ----------
    n_features : int
        Numbers of the first image.
    images : torch.nn.Module
        From ``(n, n_in)`` to one image or several, ``(n, m * n_features)``.
    further : torch.nn.Module
        From ``(n, n_in)`` to the further numbers.
    """

    is_thread_safe = True

    def __init__(self, n_features: int, images: nn.Module, further: nn.Module) -> None:
        super().__init__()
        self.n_features = n_features
        self.images = images
        self.further = further

    def forward(self, x: Tensor) -> Tensor:
        images, further = self.images(x), self.further(x)
        d = self.n_features
        return torch.cat([images[:, :d], further, images[:, d:]], dim=1)


@make_methods_readable
class Conv(BaseEstimator):
    """Convolutions for images; the decoder mirrors the encoder.

    Each convolution of the encoder halves height and width, rounded up, by steps of two
    pixels. After the last one, fully connected layers lead to the code. In the decoder,
    each convolution doubles height and width: it has four numbers for each number of its
    output, which become a square of two by two pixels [1]_.

    The data stay rows of numbers, channel by channel, and line by line within a channel:
    ``images.reshape(len(images), -1)`` for images of shape (n, channels, height, width).
    The output starts at zero, so that a fit starts at its linear path, and training uses
    autograd. If rows have missing entries, the encoder has further channels, which are 1
    where a pixel is observed and else 0.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height and width of the images. Their product is the number of features.

    channels : int or sequence of int, default=(16, 32)
        Channels after each convolution of the encoder. The decoder has them in reverse
        order.

    kernel_size : int, default=3
        Height and width of the convolutions' kernels in pixels, an odd number.

    hidden_layer_sizes : int or sequence of int, default=(128,)
        Widths of fully connected layers between the last convolution and the code; () is
        none.

    activation : {"identity", "logistic", "relu", "tanh"}, default="relu"
        Activation of all layers but the last, by scikit-learn's names.

    See Also
    --------
    MLP : Fully connected layers.

    Notes
    -----
    Further outputs of the decoder that come in whole numbers of images, such as a scale for
    each pixel, are channels of its last convolution. The rest, such as one scale for a
    row, is an affine map of the layer before the convolutions.

    References
    ----------
    .. [1] Shi, W. et al. (2016). "Real-time single image and video super-resolution using
       an efficient sub-pixel convolutional neural network". CVPR, equation 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VariationalAutoencoder
    >>> from skae.networks import Conv
    >>> X = load_digits().data[:500]
    >>> vae = VariationalAutoencoder(8, network=Conv((1, 8, 8)), max_iter=2, random_state=0)
    >>> vae.fit(X).reconstruct(X).shape
    (500, 64)
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int | Sequence[int] = (16, 32),
        *,
        kernel_size: int = 3,
        hidden_layer_sizes: int | Sequence[int] = (128,),
        activation: str = "relu",
    ) -> None:
        self.image_shape = image_shape
        self.channels = channels
        self.kernel_size = kernel_size
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation

    def check_parameters(self) -> None:
        """Raise if a parameter is out of range. See `BuiltInNetwork.check_parameters`."""
        self._shape()
        self._channels()
        hidden_widths(self.hidden_layer_sizes)

    def check_n_features(self, n_features: int) -> None:
        """Raise if the images do not have as many numbers as the data have features.

        Parameters
        ----------
        n_features : int
            Number of features of the data.

        Raises
        ------
        ValueError
            With both numbers.
        """
        shape = self._shape()
        if _size(shape) != n_features:
            raise _mismatch(shape, f"the data have {n_features} features")

    def encoder(
        self,
        n_features: int,
        n_outputs: int,
        *,
        generator: torch.Generator | None = None,
    ) -> nn.Module:
        """Build the map ``(n, n_features) -> (n, n_outputs)``. See `Network.encoder`.

        The number of features is that of an image, or twice that for an image and what is
        observed of it. The first weights are drawn from the generator; None stands for
        torch's global one.
        """
        shape, channels = self._shape(), self._channels()
        if n_features not in (_size(shape), 2 * _size(shape)):
            raise _mismatch(shape, f"the data have {n_features} features")
        n_masks = n_features // _size(shape) - 1
        n_in = (1 + n_masks) * shape[0]
        layers: list[nn.Module] = [nn.Unflatten(1, (n_in, *shape[1:]))]
        for a, b in pairwise([n_in, *channels]):
            conv = random_conv(a, b, self.kernel_size, generator, stride=2)
            layers += [conv, self._activation()]
        layers.append(nn.Flatten())
        height, width = self._sizes()[-1]
        widths = [channels[-1] * height * width, *hidden_widths(self.hidden_layer_sizes)]
        layers += self._dense(widths, generator)
        # The linear path, to which the output is added, already has a bias.
        output = random_linear(widths[-1], n_outputs, generator, bias=False)
        nn.init.zeros_(output.weight)
        return nn.Sequential(*layers, output)

    def decoder(
        self,
        n_components: int,
        n_outputs: int,
        *,
        generator: torch.Generator | None = None,
    ) -> nn.Module:
        """Build the map ``(n, n_components) -> (n, n_outputs)``. See `Network.decoder`.

        The first weights are drawn from the generator; None stands for torch's global one.
        """
        shape, channels, sizes = self._shape(), self._channels(), self._sizes()
        n_images, n_further = divmod(n_outputs, _size(shape))
        if n_images == 0:
            raise _mismatch(shape, f"the decoder has {n_outputs} outputs")
        height, width = sizes[-1]
        hidden = reversed(hidden_widths(self.hidden_layer_sizes))
        n_units = channels[-1] * height * width
        trunk = self._dense([n_components, *hidden, n_units], generator)
        layers: list[nn.Module] = [nn.Unflatten(1, (channels[-1], height, width))]
        steps = pairwise([*reversed(channels), n_images * shape[0]])
        for (a, b), size in zip(steps, reversed(sizes[:-1]), strict=True):
            conv = random_conv(a, 4 * b, self.kernel_size, generator)
            layers += [conv, nn.PixelShuffle(2), Crop(*size), self._activation()]
        layers[-1] = nn.Flatten()
        for parameter in conv.parameters():
            nn.init.zeros_(parameter)
        if n_further == 0:
            return nn.Sequential(*trunk, *layers)
        further = random_linear(n_units, n_further, generator, bias=False)
        nn.init.zeros_(further.weight)
        images = nn.Sequential(*layers)
        return nn.Sequential(*trunk, ImagesAndFurther(_size(shape), images, further))

    def _activation(self) -> nn.Module:
        """Build an activation."""
        return ACTIVATIONS[self.activation]()

    def _dense(
        self, widths: Sequence[int], generator: torch.Generator | None
    ) -> list[nn.Module]:
        """Build fully connected layers of these widths, the input's first."""
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [random_linear(n_in, n_out, generator), self._activation()]
        return layers

    def _shape(self) -> tuple[int, int, int]:
        """Validate the parameters, and return channels, height and width of an image."""
        shape: Any = self.image_shape
        if hasattr(shape, "tolist"):  # arrays and tensors
            shape = shape.tolist()
        try:
            sizes = tuple(shape)
        except TypeError:
            sizes = ()
        if len(sizes) != 3 or not all(map(is_positive_integer, sizes)):
            raise ValueError(
                "image_shape must be three positive integers, the channels, height and "
                f"width of the images, got {self.image_shape!r}."
            )
        check_activation(self.activation)
        size = self.kernel_size
        if not is_integer(size) or size < 1 or size % 2 == 0:
            raise ValueError(f"kernel_size must be an odd number above 0, got {size!r}.")
        n_channels, height, width = map(int, sizes)
        return n_channels, height, width

    def _channels(self) -> tuple[int, ...]:
        """Return the channels after each convolution of the encoder."""
        channels = hidden_widths(self.channels, "channels")
        if not channels:
            raise ValueError(f"channels must have at least one number, got {channels!r}.")
        return channels

    def _sizes(self) -> list[tuple[int, int]]:
        """Return height and width before and after each convolution of the encoder."""
        _, height, width = self._shape()
        sizes = [(height, width)]
        for _ in self._channels():
            height, width = -(-height // 2), -(-width // 2)
            sizes.append((height, width))
        return sizes


def is_channels_last(shape: Sequence[int]) -> bool:
    """Whether three sizes of an image seem to be height, width and channels.

    Parameters
    ----------
    shape : sequence of int
        Three sizes.

    Returns
    -------
    bool
        Whether the last one is a usual number of channels, the others are larger, and the
        first one is not such a number.
    """
    height, width, channels = shape
    usual = (1, 3, 4)
    return channels in usual and height not in usual and min(height, width) > channels


def warn_of_channels_last(network: Conv) -> None:
    """Warn if the image shape of a network seems to have the channels last.

    Parameters
    ----------
    network : Conv
        The network.
    """
    shape = network._shape()
    if is_channels_last(shape):
        height, width, channels = shape
        warn_user(
            f"image_shape={shape} stands for images of {height} channels, because it is "
            f"(channels, height, width). Did you mean {(channels, height, width)}?"
        )


def _size(shape: tuple[int, int, int]) -> int:
    """Return the number of features of an image."""
    n_channels, height, width = shape
    return n_channels * height * width


def _mismatch(shape: tuple[int, int, int], found: str) -> ValueError:
    """Return the error for images that are not those of the data."""
    n_channels, height, width = shape
    return ValueError(
        f"image_shape={shape} stands for images of {n_channels} x {height} x {width} = "
        f"{_size(shape)} features, but {found}. Set image_shape to the channels, height "
        "and width of the images."
    )
