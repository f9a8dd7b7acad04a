"""JNet's definition in plain PyTorch layers, one after the other, without any shortcut."""

import torch
import torch.nn.functional as F
from torch import nn

REPLICATE = {"padding_mode": "replicate"}


class Block(nn.Module):
    def __init__(self, c, dropout):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm3d(c), nn.BatchNorm3d(c)
        self.conv1 = nn.Conv3d(c, c, 3, padding=1, **REPLICATE)
        self.conv2 = nn.Conv3d(c, c, 3, padding=1, **REPLICATE)
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(dropout)

    def forward(self, x):
        h = self.conv1(self.relu(self.bn1(x)))
        return x + self.conv2(self.dropout(self.relu(self.bn2(h))))


class Named(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x)


class Level(nn.Module):
    def __init__(self, channels, n, dropout):
        super().__init__()
        a, b = channels[:2]
        self.pool, self.unpool = Named(nn.Conv3d(a, b, 1)), Named(nn.Conv3d(b, a, 1))
        self.conv = nn.Conv3d(b, b, 1)
        self.prev = nn.Sequential(*(Block(b, dropout) for _ in range(n)))
        self.post = nn.Sequential(*(Block(b, dropout) for _ in range(n)))
        self.mid = Level(channels[1:], n, dropout) if len(channels) > 2 else nn.Identity()

    def forward(self, x):
        h = self.conv(F.relu(self.pool(F.max_pool3d(x, 2))))
        h = self.post(self.mid(self.prev(h)))
        h = F.interpolate(h, scale_factor=2, mode="trilinear", align_corners=False)
        return x + F.relu(self.unpool(h))


class PlainUNet(nn.Module):
    def __init__(self, channels, n=2, dropout=0.5, scale=10):
        super().__init__()
        c = channels[0]
        self.scale = scale
        self.prev0 = Named(nn.Conv3d(1, c, 7, padding=3, **REPLICATE))
        self.prev = nn.Sequential(*(Block(c, dropout) for _ in range(n)))
        self.mid = Level(channels, n, dropout)
        self.postx, self.postz = (
            nn.Sequential(
                *(Block(c, dropout) for _ in range(n)),
                Named(nn.Conv3d(c, 1, 3, padding=1, **REPLICATE)),
            )
            for _ in range(2)
        )

    def forward(self, x):
        x = F.interpolate(x, scale_factor=(self.scale, 1, 1), mode="trilinear", align_corners=False)
        x = self.mid(self.prev(self.prev0(x)))
        return torch.sigmoid(self.postx(x)), torch.sigmoid(self.postz(x))
