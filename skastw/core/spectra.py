"""Spectra of windows of a waveform, and Whisper's scale of their mel bands."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skastw.core.batching import frame_mask, is_padded
from skastw.errors import ComponentError

#: Windows that are transformed at once, and samples in them. Such a part fits into the cache of a processor, and limits
#: the memory for recordings of hours.
_SLAB, _SLAB_SIZE = 1024, 2**23
#: Largest number of windows that contain the same sample (``n_fft / hop_length``); 2 to 16 are usual.
MAX_OVERLAP = 1024
#: Largest product ``n_fft * n_mels``; the filters take twice as many bytes.
MAX_FILTER_SIZE = 2**23

#: Window functions by name.
WINDOWS: dict[str, Callable[[int], Tensor]] = {
    "hann": torch.hann_window,
    "hamming": torch.hamming_window,
    "blackman": torch.blackman_window,
    "bartlett": torch.bartlett_window,
}


def check_cost(n_fft: int, hop_length: int, n_mels: int, *, names: tuple[str, str] = ("n_fft", "n_mels")) -> None:
    """Raise an error if the filters would take gigabytes, or each sample would be transformed thousands of times.

    Such settings are a mistake, or come from an untrusted model folder.

    Parameters
    ----------
    n_fft, hop_length : int
        Length of the Fourier transform and step between frames in samples. Each sample may lie in at most
        :data:`MAX_OVERLAP` windows.
    n_mels : int
        Number of mel bands. The product ``n_fft * n_mels`` may be at most :data:`MAX_FILTER_SIZE`.
    names : tuple of str
        Parameters of the front end that hold the length and the number of bands, for the message.

    Raises
    ------
    ComponentError
        If a limit is exceeded. The message names the values, the limit and the remedy.

    Examples
    --------
    >>> from skastw.core.spectra import check_cost
    >>> check_cost(n_fft=65536, hop_length=1, n_mels=80)
    Traceback (most recent call last):
        ...
    skastw.errors.ComponentError: Got n_fft=65536 with hop_length=1: ... Take a hop_length of 64 or more...
    """
    size, bands = names
    min_hop = -(-n_fft // MAX_OVERLAP)
    if hop_length < min_hop:
        raise ComponentError(
            f"Got {size}={n_fft} with hop_length={hop_length}: each sample lies in {n_fft // hop_length} windows, "
            f"expected at most {MAX_OVERLAP}. Take a hop_length of {min_hop} or more, or a smaller {size}."
        )
    if n_fft * n_mels > MAX_FILTER_SIZE:
        raise ComponentError(
            f"Got {size}={n_fft} with {bands}={n_mels}, whose product is {n_fft * n_mels}, expected at most "
            f"{MAX_FILTER_SIZE}. Lower {bands} to {MAX_FILTER_SIZE // n_fft}, or {size} to {MAX_FILTER_SIZE // n_mels}."
        )


def centred_windows(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Return windows of a waveform that are centred on every ``hop_length``-th sample.

    The waveform is mirrored at its start and padded with zeros at its end.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
        Waveforms, zero beyond the length of each clip.
    n_fft, hop_length : int
        Length of a window and step between windows in samples.

    Returns
    -------
    Tensor of shape (B, ceil(N / hop_length), n_fft)
        Window t is centred on sample ``t * hop_length``. The result is a view: overlapping windows share memory.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.spectra import centred_windows
    >>> centred_windows(torch.tensor([[1.0, 2.0, 3.0]]), n_fft=4, hop_length=2)[0].tolist()
    [[3.0, 2.0, 1.0, 2.0], [1.0, 2.0, 3.0, 0.0]]
    """
    n_samples, half = waveform.shape[1], n_fft // 2
    size = (-(-n_samples // hop_length) - 1) * hop_length + n_fft
    if n_samples <= half:  # the mirrored part includes zeros of the padding
        waveform = nn.functional.pad(waveform, (0, half + 1 - n_samples))
    zeros = waveform.new_zeros(len(waveform), max(0, size - half - waveform.shape[1]))
    padded = torch.cat([waveform[:, 1 : half + 1].flip(1), waveform, zeros], dim=1)
    return padded[:, :size].unfold(1, n_fft, hop_length)


def librosa_windows(
    waveform: Tensor, lengths: Tensor, n_fft: int, hop_length: int, pad_mode: str = "constant"
) -> Tensor:
    """Return windows that are centred on every ``hop_length``-th sample, as in ``librosa.stft``.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
        Waveforms, zero beyond the length of each clip.
    lengths : Tensor of shape (B,)
        Samples of each clip.
    n_fft, hop_length : int
        Length of a window and step between windows in samples.
    pad_mode : {"constant", "reflect"}, default="constant"
        Whether half a window of zeros is added at both ends of each clip, or the clip is mirrored at them.

    Returns
    -------
    Tensor of shape (B, T, n_fft)
        A view: overlapping windows share memory. :func:`n_librosa_windows` tells how many of them belong to each clip.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.spectra import librosa_windows
    >>> clip, lengths = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([3])
    >>> librosa_windows(clip, lengths, n_fft=4, hop_length=2, pad_mode="reflect")[0].tolist()
    [[3.0, 2.0, 1.0, 2.0], [1.0, 2.0, 3.0, 2.0]]
    """
    half = n_fft // 2
    if pad_mode == "reflect":
        return reflected(waveform, lengths, half, half).unfold(1, n_fft, hop_length)
    return nn.functional.pad(waveform, (half, half)).unfold(1, n_fft, hop_length)


def n_librosa_windows(lengths: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Return how many windows of :func:`librosa_windows` belong to each clip.

    Parameters
    ----------
    lengths : Tensor of shape (B,)
        Samples of each clip.
    n_fft, hop_length : int
        Length of a window and step between windows in samples.

    Returns
    -------
    Tensor of shape (B,)
    """
    return 1 + (lengths - n_fft % 2) // hop_length


def reflected(waveform: Tensor, lengths: Tensor, before: int, after: int, *, repeat_edge: bool = False) -> Tensor:
    """Return clips that are continued at both ends by their mirror images, repeatedly if they are short.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
        Waveforms, zero beyond the length of each clip.
    lengths : Tensor of shape (B,)
        Samples of each clip.
    before, after : int
        Samples to add before the start and after the end of each clip.
    repeat_edge : bool, default=False
        Whether the first and the last sample are part of the mirror image, as with ``mode="symmetric"`` instead of
        ``mode="reflect"`` of ``numpy.pad``.

    Returns
    -------
    Tensor of shape (B, before + N + after)
        Zero beyond the continuation of each clip.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.spectra import reflected
    >>> clips = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 0.0, 0.0]])
    >>> reflected(clips, torch.tensor([4, 2]), 1, 2).tolist()
    [[2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0], [6.0, 5.0, 6.0, 5.0, 6.0, 0.0, 0.0]]
    """
    edge = int(repeat_edge)
    ends = lengths.to(waveform.device)[:, None]
    period = (2 * (ends - 1 + edge)).clamp(min=1)

    def mirror(position: Tensor) -> Tensor:
        folded = position % period
        return waveform.gather(1, torch.minimum(folded, period - edge - folded))

    start = torch.arange(-before, 0, device=waveform.device).expand(ends.shape[0], -1)
    end = ends + torch.arange(after, device=waveform.device)
    zeros = waveform.new_zeros(ends.shape[0], after)
    return torch.cat([mirror(start), waveform, zeros], dim=1).scatter_(1, before + end, mirror(end))


def centred_window(name: str, win_length: int | None, n_fft: int) -> Tensor:
    """Return a window function with zeros at both ends.

    Parameters
    ----------
    name : {"hann", "hamming", "blackman", "bartlett"}
    win_length : int or None
        Length of the window in samples; None stands for ``n_fft``. The window is periodic, as usual for spectra: with
        the first value once more at its end, it would be symmetric.
    n_fft : int
        Length of the result.

    Returns
    -------
    Tensor of shape (n_fft,)

    Raises
    ------
    ComponentError
        If the window is longer than ``n_fft``.

    Examples
    --------
    >>> from skastw.core.spectra import centred_window
    >>> centred_window("hann", 4, 6).tolist()
    [0.0, 0.0, 0.5, 1.0, 0.5, 0.0]
    """
    win_length = win_length or n_fft
    if win_length > n_fft:
        raise ComponentError(f"Got win_length={win_length}, expected at most n_fft={n_fft}.")
    before = (n_fft - win_length) // 2
    return nn.functional.pad(WINDOWS[name](win_length), (before, n_fft - win_length - before))


def power_spectrum(windows: Tensor, window: Tensor, n_fft: int | None = None) -> Tensor:
    """Return the power spectrum of windows.

    Parameters
    ----------
    windows : Tensor of shape (..., N)
        Samples.
    window : Tensor of shape (N,)
        Window function: weight of each sample.
    n_fft : int, optional
        Length of the Fourier transform, at least N, which is the default. Zeros are added to the windows.

    Returns
    -------
    Tensor of shape (..., n_fft // 2 + 1)
    """
    spectrum = torch.fft.rfft(windows * window, n=n_fft)
    return torch.addcmul(spectrum.real * spectrum.real, spectrum.imag, spectrum.imag)


def in_slabs(windows: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to windows part by part, so that recordings of hours do not need the memory for all at once.

    Parameters
    ----------
    windows : Tensor of shape (B, T, N)
        Samples.
    function : callable
        Takes some of the windows, shape (n, N), and returns a Tensor of shape (n, F).

    Returns
    -------
    Tensor of shape (B, T, F)

    Examples
    --------
    >>> import torch
    >>> from skastw.core.spectra import in_slabs
    >>> tuple(in_slabs(torch.ones(2, 5, 400), lambda part: part[:, :3]).shape)
    (2, 5, 3)
    """
    flat = windows.flatten(0, 1)
    if torch.compiler.is_compiling():  # an exported graph has no loop
        values = function(flat)
    else:
        slabs = [function(slab) for slab in flat.split(min(_SLAB, max(1, _SLAB_SIZE // flat.shape[1])))]
        values = slabs[0] if len(slabs) == 1 else torch.cat(slabs)
    return values.view(*windows.shape[:2], -1)


def whisper_scale(mel: Tensor, lengths: Tensor) -> Tensor:
    """Return ``(x + 4) / 4``, where x is log10 of the mel power, but at least the maximum of the clip minus 8.

    Parameters
    ----------
    mel : Tensor of shape (B, T, F)
        Non-negative mel power.
    lengths : Tensor of shape (B,)
        Number of valid frames.

    Returns
    -------
    Tensor of shape (B, T, F)
        Frames, zero beyond each length. The values of a clip span at most 2 (80 dB).
    """
    log = mel.clamp(min=1e-10).log10()
    if not is_padded(mel, lengths):
        return torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0).add_(4.0).div_(4.0)
    mask = frame_mask(mel, lengths)
    floor = log.masked_fill(~mask, -10.0).amax(dim=(1, 2), keepdim=True) - 8.0
    return ((torch.maximum(log, floor) + 4.0) / 4.0) * mask
