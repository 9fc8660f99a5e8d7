"""References for the measurements of speed: the same work with plain PyTorch, librosa and transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainEncoder(nn.Module):
    """The default network in plain PyTorch: two convolutions, positions, pre-norm blocks, mean, linear head."""

    def __init__(self, n_outputs: int, *, d_model: int = 384, num_heads: int = 6, num_layers: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(80, d_model, 3, padding=1)
        self.conv2 = nn.Conv1d(d_model, d_model, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.randn(1500, d_model) * 0.02)
        self.dropout = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(PlainBlock(d_model, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, n_outputs)

    def forward(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """Frames (B, T, 80) -> logits. ``lengths`` masks the padding; without it, padding counts as sound."""
        x = F.gelu(self.conv1(frames.transpose(1, 2)))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = self.dropout(x + self.positions[: x.shape[1]])
        padding = None if lengths is None else torch.arange(x.shape[1]) >= ((lengths + 1) // 2)[:, None]
        for block in self.blocks:
            x = block(x, padding)
        x = self.norm(x)
        if padding is None:
            return self.head(x.mean(dim=1))
        valid = ~padding[:, :, None]
        return self.head((x * valid).sum(dim=1) / valid.sum(dim=1))


class PlainBlock(nn.Module):
    """A pre-norm block of PyTorch's own layers."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model)
        self.attention = nn.MultiheadAttention(d_model, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """Attention, then feed-forward."""
        y = self.norm1(x)
        x = x + self.dropout(self.attention(y, y, y, key_padding_mask=padding, need_weights=False)[0])
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


def plain_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Return Muon for the linear layers, if this PyTorch has it, and AdamW for the other weights."""
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    if not hasattr(torch.optim, "Muon"):
        return [torch.optim.AdamW(model.parameters(), lr=3e-4)]
    taken = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in taken]
    return [torch.optim.Muon(matrices, lr=0.01), torch.optim.AdamW(rest, lr=3e-4)]


def collate(frames: list[Tensor], size: int | None) -> tuple[Tensor, Tensor]:
    """Pad with zeros to ``size``, or to the longest clip."""
    lengths = torch.tensor([len(item) for item in frames])
    batch = torch.zeros(len(frames), size or int(lengths.max()), frames[0].shape[1])
    for row, item in zip(batch, frames, strict=True):
        row[: len(item)] = item
    return batch, lengths


def train_step(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    frames: list[Tensor],
    targets: Tensor,
    *,
    pad_to: int | None,
) -> None:
    """Take one step in float32: R1 with ``pad_to=3000`` (Whisper's 30 s), R2 with None."""
    model.train()
    batch, lengths = collate(frames, pad_to)
    loss = F.cross_entropy(model(batch, None if pad_to else lengths), targets, label_smoothing=0.1)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


@torch.inference_mode()
def evaluate(model: nn.Module, frames: list[Tensor], batch_size: int) -> Tensor:
    """Return the probabilities of clips, in batches in their order (R2)."""
    model.eval()
    parts = []
    for begin in range(0, len(frames), batch_size):
        batch, lengths = collate(frames[begin : begin + batch_size], None)
        parts.append(model(batch, lengths).softmax(dim=1))
    return torch.cat(parts)


def librosa_features(path: str) -> object:
    """Decode, resample and compute a mel spectrogram with librosa (R3)."""
    import librosa

    waveform, rate = librosa.load(path, sr=16000)
    return librosa.feature.melspectrogram(y=waveform, sr=rate, n_fft=400, hop_length=160, n_mels=80)
