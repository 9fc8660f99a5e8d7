"""Kaldi's log mel filter bank, the input of many pretrained encoders."""

import numpy as np
import torch
from torch import Tensor, nn

from skastw.core.batching import trim
from skastw.core.mel import mel_filter_bank
from skastw.core.spectra import check_cost, in_slabs, power_spectrum, reflected
from skastw.errors import ComponentError

#: Window functions.
WINDOWS = ("povey", "hamming", "hanning", "blackman", "rectangular")
#: Lower values in a band are raised to this value before the logarithm.
FLOOR = 2.0**-23


class KaldiFilterBank(nn.Module):
    """Kaldi's log mel filter bank without dither.

    The mean of each window is subtracted. The window is pre-emphasised, ``x[i] - preemphasis * x[i - 1]``, with the
    first sample as its own predecessor, multiplied by the window function and padded with zeros to ``n_fft``. The
    powers of its spectrum are summed with triangular weights over the mel scale. A frame contains the natural
    logarithms of the sums, which are at least 2^-23.

    Parameters
    ----------
    sample_rate : int
        Samples per second (Hz).
    n_mels : int, default=80
        Number of mel bands.
    win_length, hop_length : int, default=400, 160
        Length of a window and step between windows in samples.
    n_fft : int, optional
        Length of the Fourier transform in samples; by default the lowest power of two that is not below ``win_length``.
    window : {"povey", "hamming", "hanning", "blackman", "rectangular"}, default="povey"
        Window function; see :func:`window_function`.
    preemphasis : float, default=0.97
        Coefficient of the pre-emphasis; 0 switches it off.
    remove_dc_offset : bool, default=True
        Whether to subtract its mean from each window.
    snip_edges : bool, default=True
        Where windows lie; see :func:`kaldi_windows`.
    fmin : float, default=20.0
        Lower end of the mel bands (Hz).
    fmax : float, optional
        Upper end of the mel bands (Hz); by default half the sample rate. A negative value is added to half the sample
        rate.
    use_power : bool, default=True
        Whether to sum powers, or magnitudes.
    scale : float, default=32768.0
        Factor of the samples. Kaldi reads samples as 16-bit integers, but waveforms lie in [-1, 1].

    Raises
    ------
    ComponentError
        If ``n_fft`` is less than ``win_length``, the settings need too much memory or time
        (:func:`~skastw.core.spectra.check_cost`), or the range of the bands exceeds half the sample rate.

    References
    ----------
    Povey et al., "The Kaldi Speech Recognition Toolkit", 2011.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.kaldi import KaldiFilterBank
    >>> frames, lengths = KaldiFilterBank(16000)(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 98, 80), [98, 48])
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int,
        *,
        n_mels: int = 80,
        win_length: int = 400,
        hop_length: int = 160,
        n_fft: int | None = None,
        window: str = "povey",
        preemphasis: float = 0.97,
        remove_dc_offset: bool = True,
        snip_edges: bool = True,
        fmin: float = 20.0,
        fmax: float | None = None,
        use_power: bool = True,
        scale: float = 2.0**15,
    ) -> None:
        super().__init__()
        n_fft = n_fft or 2 ** (win_length - 1).bit_length()
        if n_fft < win_length:
            raise ComponentError(f"Got n_fft={n_fft}, expected at least win_length={win_length}, or None.")
        check_cost(n_fft, hop_length, n_mels)

        self.n_fft = n_fft
        self.hop_length = hop_length
        self.preemphasis = preemphasis
        self.remove_dc_offset = remove_dc_offset
        self.snip_edges = snip_edges
        self.use_power = use_power
        self.scale = scale

        filters = mel_filter_bank(
            sample_rate, n_fft, n_mels, fmin, highest(fmax, sample_rate), scale="kaldi", norm="none"
        )
        self.register_buffer("window", torch.from_numpy(window_function(window, win_length)), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Turn waveforms (B, N) of lengths (B,) into frames (B, T, n_mels) and their lengths."""
        windows = kaldi_windows(waveform, lengths, len(self.window), self.hop_length, snip_edges=self.snip_edges)
        margin = self.hop_length - len(self.window) if self.snip_edges else self.hop_length // 2
        n_frames = ((lengths + margin) // self.hop_length).clamp(min=1)
        return trim(in_slabs(windows, self._log_mel), n_frames), n_frames

    def _log_mel(self, windows: Tensor) -> Tensor:
        """Return the frames of windows (n, win_length), shape (n, n_mels)."""
        windows = windows * self.scale
        if self.remove_dc_offset:
            windows = windows - windows[:, :1]  # so that a constant window becomes exactly zero
            windows = windows - windows.mean(dim=1, keepdim=True)
        if self.preemphasis:
            previous = torch.cat([windows[:, :1], windows[:, :-1]], dim=1)
            windows = windows - self.preemphasis * previous

        spectrum = power_spectrum(windows, self.window, self.n_fft)
        mel = (spectrum if self.use_power else spectrum.sqrt()) @ self.filters
        return mel.clamp(min=FLOOR).log()


def highest(fmax: float | None, sample_rate: int) -> float:
    """Return the upper end of the mel bands in Hz, where ``fmax`` of 0 or less is relative to half the ``sample_rate``.

    Examples
    --------
    >>> from skastw.core.kaldi import highest
    >>> highest(None, 16000), highest(-400, 16000), highest(7000, 16000)
    (8000.0, 7600.0, 7000)
    """
    return fmax if fmax is not None and fmax > 0 else sample_rate / 2 + (fmax or 0)


def window_function(name: str, win_length: int) -> np.ndarray:
    """Return a window function, whose first and last values are equal.

    Parameters
    ----------
    name : {"povey", "hamming", "hanning", "blackman", "rectangular"}
        ``"povey"`` is the Hann window to the power of 0.85.
    win_length : int
        At least 2.

    Returns
    -------
    ndarray of shape (win_length,), float32

    Examples
    --------
    >>> from skastw.core.kaldi import window_function
    >>> window_function("hanning", 5).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    angle = 2 * np.pi * np.arange(win_length) / (win_length - 1)
    cosine, hann = np.cos(angle), np.maximum(0, 0.5 - 0.5 * np.cos(angle))
    windows = {
        "povey": hann**0.85,
        "hamming": 0.54 - 0.46 * cosine,
        "hanning": hann,
        "blackman": 0.42 - 0.5 * cosine + 0.08 * np.cos(2 * angle),
        "rectangular": np.ones(win_length),
    }
    return windows[name].astype(np.float32)


def kaldi_windows(
    waveform: Tensor, lengths: Tensor, win_length: int, hop_length: int, *, snip_edges: bool = True
) -> Tensor:
    """Return the windows of a waveform as Kaldi places them.

    With ``snip_edges``, all windows lie inside the clip, so a part of its end may be left out. Kaldi has no window for
    a clip that is shorter than one. Here, such a clip is padded with zeros to one window.

    Without ``snip_edges``, the middles of the windows are half a hop from the start of the clip and then one hop apart.
    The clip is mirrored at both ends, repeatedly if it is short. It has at least one window.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
        Waveforms, zero beyond the length of each clip.
    lengths : Tensor of shape (B,)
        Samples of each clip.
    win_length, hop_length : int
        Length of a window and step between windows in samples.
    snip_edges : bool, default=True
        Whether all windows lie inside the clip.

    Returns
    -------
    Tensor of shape (B, T, win_length)
        A view: overlapping windows share memory.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.kaldi import kaldi_windows
    >>> clip, lengths = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), torch.tensor([5])
    >>> kaldi_windows(clip, lengths, 4, 2)[0].tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    >>> kaldi_windows(clip, lengths, 4, 2, snip_edges=False)[0].tolist()
    [[1.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0], [4.0, 5.0, 5.0, 4.0]]
    """
    n_samples = waveform.shape[1]
    if snip_edges:
        waveform = nn.functional.pad(waveform, (0, max(0, win_length - n_samples)))
        return waveform.unfold(1, win_length, hop_length)

    start = hop_length // 2 - win_length // 2
    size = (max(1, (n_samples + hop_length // 2) // hop_length) - 1) * hop_length + win_length
    mirrored = reflected(waveform, lengths, max(0, -start), hop_length + win_length, repeat_edge=True)
    return mirrored[:, max(0, start) :][:, :size].unfold(1, win_length, hop_length)
